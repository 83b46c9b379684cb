"""Loads a split of a hub dataset, or of its local copy, and says in one message what is wrong with either."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import repo_folder_name

from lmmcl.data.files.table import TableRows
from lmmcl.data.hub.card import check_card, check_files, fetch_cards
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.errors import UserError

_HUB = "hf://datasets/"
_FAILURES = (DatasetsError, OSError, ValueError, RuntimeError)
"""The last: a dataset brings a script, which is not run."""


def load_split(
    dataset: str, split: str, config: str | None, revision: str | None, root: Path | None
) -> TableRows:
    """One split as lazy records.

    Args:
        dataset: id on the hub, ``owner/name``.
        split: its name.
        config: configuration; None: the default one.
        revision: branch, tag or commit on the hub; None: the newest.
        root: folder of local copies; None: the hub.

    Raises:
        UserError: no such dataset, copy, configuration or split, or the hub cannot be reached.
    """
    name = dataset if config is None else f"{dataset} ({config})"
    copy = None if root is None else _copy(dataset, root)
    try:
        builder = _of_hub(dataset, config, revision, name) if copy is None else _of_copy(copy, config, name)
        known = list(builder.config.data_files or builder.info.splits or ())
        if known and split not in known:
            raise UserError(
                f"splits: {name} has no split {split!r}, it has {', '.join(known)}; correct the split."
            )
        builder.download_and_prepare()
        table = builder.as_dataset(split=split)
    except UserError:
        raise
    except _FAILURES as error:
        raise UserError(_explained(error, name, root)) from error
    return TableRows(table, f"{name}, split {split}", roots=_roots(builder, copy))


def _of_copy(copy: Path, config: str | None, name: str) -> Any:
    check_card(copy, name)
    builder = _builder(str(copy), config, None, _cache_of(copy))
    check_files(builder, name)
    return builder


def _of_hub(dataset: str, config: str | None, revision: str | None, name: str) -> Any:
    """Its card is checked first: `datasets` asks whatever the card names for a listing, also inside of this network.

    Where no card can be had, nothing is asked at all, and only what was prepared before is taken.
    """
    source = _HUB + dataset  # else a folder of this name in the working directory would be taken
    if datasets.config.HF_HUB_OFFLINE:
        return _prepared(dataset, config, revision, name)
    try:
        card = fetch_cards(dataset, revision)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:  # what was prepared is of another one
        raise UserError(_explained(error, name, None)) from error
    except Exception as error:  # noqa: BLE001 - the hub's client raises kinds of its own and of httpx
        try:
            with _offline():
                return _prepared(dataset, config, revision, name)
        except UserError:
            raise
        except _FAILURES:
            raise UserError(_explained(error, name, None)) from error
    check_card(card, name)
    builder = _builder(source, config, card.name, None)
    check_files(builder, name, f"{source}@{card.name}")
    return builder


def _prepared(dataset: str, config: str | None, revision: str | None, name: str) -> Any:
    """What was prepared before; of the revision that is asked for, where the hub's cache knows its commit."""
    builder = _builder(_HUB + dataset, config, revision, None)
    commit = None if revision is None else _commit(dataset, revision)
    if (
        commit is not None and builder.hash != commit
    ):  # without a network `datasets` takes the newest that there is
        raise UserError(
            f"hub: {name} is asked for at revision {revision} ({commit[:12]}), and was prepared here at "
            f"{builder.hash[:12]}; load it once with a network, correct the revision, or give data.root."
        )
    return builder


def _commit(dataset: str, revision: str) -> str | None:
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=dataset, repo_type="dataset")
    known = folder / "refs" / revision
    return known.read_text().strip() if known.is_file() else None


@contextmanager
def _offline() -> Iterator[None]:
    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _roots(builder: Any, copy: Path | None) -> tuple[str, ...]:
    """Where pictures may lie that a table names by a path: in the copy, and where `datasets` unpacks archives."""
    caches = [builder._cache_dir_root, datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE]
    first, *others = caches if copy is None else [copy, *caches]
    return PictureRoots.of(Path(first), *map(str, others)).roots


def _copy(dataset: str, root: Path) -> Path:
    copy = root / dataset
    if not copy.is_dir():
        raise UserError(
            f"data.root: {dataset} must lie in {copy}, there is no such folder; fetch it by hf download {dataset} "
            f"--repo-type dataset --local-dir {copy}, or leave data.root out to use the hub."
        )
    return copy


def _cache_of(copy: Path) -> str:
    """A cache of a copy's own, as long as its files stay the same.

    `datasets` finds what it prepared of a local folder by the folder's last name and its card alone, so that another
    copy of the same data set, or the same one with newer files, would give the rows of the first.
    """
    files = [(str(file.relative_to(copy)), file.stat()) for file in sorted(copy.rglob("*")) if file.is_file()]
    stamp = [[name, status.st_size, status.st_mtime_ns] for name, status in files]
    key = hashlib.sha256(json.dumps([str(copy.resolve()), stamp]).encode()).hexdigest()
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "local_copies" / key[:16])


def _builder(source: str, config: str | None, revision: str | None, cache: str | None) -> Any:
    try:
        place = {} if cache is None else {"cache_dir": cache}
        return datasets.load_dataset_builder(source, config, revision=revision, **place)
    except ValueError:
        known = datasets.get_dataset_config_names(source, revision=revision)
        if config in known or (config is None and len(known) < 2):
            raise
        given = "none" if config is None else repr(config)
        named = source.removeprefix(_HUB)
        raise UserError(
            f"config: {named} must have one of {', '.join(known)}, got {given}; correct the config."
        ) from None


def _explained(error: Exception, name: str, root: Path | None) -> str:
    cause = error.__cause__ or error
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if root is not None:
        return f"data.root: the copy of {name} cannot be read ({reason}); fetch or repair {root}."
    if isinstance(error, DatasetNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
        return f"hub: {name} is not there ({reason}); correct its id or revision, or log in by hf auth login."
    return (
        f"hub: {name} cannot be loaded ({reason}); check the network and HF_HUB_OFFLINE, or give data.root, a folder "
        "of local copies (<root>/<owner>/<name>)."
    )
