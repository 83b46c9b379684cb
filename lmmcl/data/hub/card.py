"""A dataset's card says which files its rows are in; these have to be its own."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from lmmcl.data.pictures.picture_roots import PictureRoots, lies_in
from lmmcl.errors import UserError

_CARDS = ("README.md", ".huggingface.yaml")
_FILES = ("data_files", "data_dir")


def check_card(copy: Path, name: str) -> None:
    """Refuses a copy whose card names files elsewhere, before anybody looks there: addresses are asked for a listing.

    Args:
        copy: the folder.
        name: of the dataset, for the error.

    Raises:
        UserError: it does.
    """
    for card in _CARDS:
        for text in _named(_front_matter(copy / card)):
            if "://" in text or "::" in text or text.startswith(("/", "~")) or ".." in text.split("/"):
                raise _foreign(name, text)


def check_files(builder: Any, name: str) -> None:
    """Refuses a dataset whose files, as `datasets` found them, are not its own.

    Args:
        builder: of `datasets`; nothing is read or fetched by it yet.
        name: of the dataset, for the error.

    Raises:
        UserError: one lies elsewhere on this machine, or on the web outside of the hub.
    """
    local = "://" not in str(builder.base_path or "")
    roots = PictureRoots.of(Path(builder.base_path or ".")).roots
    for files in (builder.config.data_files or {}).values():
        for place in (
            str(file).rpartition("::")[2] for file in files
        ):  # of a file in an archive, the archive
            if "://" in place:
                own = not local and place.startswith(("hf://", "https://huggingface.co/"))
            else:
                own = local and lies_in(os.path.realpath(place), roots)
            if not own:
                raise _foreign(name, place)


def _foreign(name: str, place: str) -> UserError:
    return UserError(
        f"hub: {name} must bring its rows itself, its card names {place}; correct the card (README.md), or name that "
        "file yourself, by path."
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
