"""A dataset's card says which files its rows are in; these have to be its own."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from lmmcl.data.pictures.picture_roots import PictureRoots, lies_in
from lmmcl.errors import UserError

_CARDS = ("README.md", ".huggingface.yaml")
_FILES = ("data_files", "data_dir")


def fetch_cards(dataset: str, revision: str | None) -> Path:
    """Fetches a hub dataset's cards, and nothing else of it.

    Args:
        dataset: its id, ``owner/name``.
        revision: branch, tag or commit; None: the newest.

    Returns:
        The folder of its snapshot in the hub's cache, whose name is the commit; there is none where there is no card.

    Raises:
        Exception: what the hub's client raises where it cannot reach the hub, or finds no such dataset or revision.
    """
    hub, commit, folder = HfApi(library_name="lmmcl"), revision, None
    for card in _CARDS:
        try:
            folder = Path(hub.hf_hub_download(dataset, card, repo_type="dataset", revision=commit)).parent
            commit = folder.name
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            commit = commit if folder else hub.dataset_info(dataset, revision=revision).sha
    return folder or Path(str(commit))


def check_card(copy: Path, name: str) -> None:
    """Refuses a card that names files elsewhere, before anybody looks there: addresses are asked for a listing.

    Args:
        copy: folder of the dataset, or of its cards.
        name: of the dataset, for the error.

    Raises:
        UserError: it does.
    """
    for card in _CARDS:
        for text in _named(_front_matter(copy / card)):
            if "://" in text or "::" in text or text.startswith(("/", "~")) or _leads_up(text):
                raise _foreign(name, text)


def check_files(builder: Any, name: str, repository: str | None = None) -> None:
    """Refuses a dataset whose files, as `datasets` found them, are not its own.

    Args:
        builder: of `datasets`; nothing is read or fetched by it yet. One that was prepared before names no files.
        name: of the dataset, for the error.
        repository: on the hub, at the commit whose card was checked: ``hf://datasets/owner/name@commit``; None for a
            copy.

    Raises:
        UserError: one lies elsewhere on this machine, on the web, or in another repository or revision of the hub.
    """
    files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
    base = str(builder.base_path or "")
    if files and repository is not None and base != repository:
        raise UserError(
            f"hub: {name} must be read as its card was checked, at {repository}, got {base or 'files of this machine'};"
            " it has changed since: try again, or name a revision."
        )
    roots = () if repository is not None else PictureRoots.of(Path(base or ".")).roots
    for place in (file.rpartition("::")[2] for file in files):  # of a file in an archive, the archive
        if repository is not None:
            own = place.startswith(f"{repository}/") and not _leads_up(place)
        else:
            own = "://" not in place and lies_in(os.path.realpath(place), roots)
        if not own:
            raise _foreign(name, place)


def _leads_up(path: str) -> bool:
    return ".." in unquote(path).replace("\\", "/").split("/")


def _foreign(name: str, place: str) -> UserError:
    return UserError(
        f"hub: {name} must bring its rows itself, its card names {place}; correct the card (README.md), of a copy "
        "under data.root if need be, or name that file yourself, by path."
    )


def _front_matter(card: Path) -> Any:
    """What a card says in YAML; nothing where there is no card, or one that cannot be read, as `datasets` then says."""
    try:
        with card.open(encoding="utf-8", newline="") as file:
            text = file.read()
        if card.suffix == ".md":  # as the hub's own reader finds it, which `datasets` uses
            block = REGEX_YAML_BLOCK.search(text)
            text = block[2] if block else ""
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _named(value: Any, files: bool = False) -> Iterator[str]:
    """Every text under a key of files."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _named(inner, files or key in _FILES)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, files)
    elif isinstance(value, str) and files:
        yield value
