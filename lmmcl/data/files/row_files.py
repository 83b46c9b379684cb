"""Which files a ``path`` of the YAML stands for, and their records."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmmcl.data.bad_row import BadRows
from lmmcl.data.files.picture_folder import FolderRecords, is_made_by_a_program
from lmmcl.data.files.records import ChainedRecords, Records
from lmmcl.data.files.tar_records import TarRecords
from lmmcl.data.files.text_records import TEXT_SUFFIXES, read_text
from lmmcl.data.nearest import nearest
from lmmcl.data.pictures.picture_roots import PictureRoots, refuse_links_out
from lmmcl.data.task import PARTS
from lmmcl.errors import UserError

TABLE_SUFFIXES = (".parquet", ".arrow")
SUFFIXES = (*TEXT_SUFFIXES, *TABLE_SUFFIXES, ".tar")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""What `datasets` calls the file of rows in a folder of pictures; its column of pictures is ``file_name``."""
_PART_NAMES = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")


def part_files(path: Any, roots: Sequence[str | Path] = ()) -> dict[str, list[Path]]:
    """The files of every part that has some; those of all parts together stand under ``all``.

    Args:
        path: a file, a folder, a text with ``*`` or ``{000..127}``, or a list of these; or a mapping of ``train``,
            ``dev`` and ``test`` to them. A folder whose files of rows (``train.jsonl``, ``test-0000.parquet``), or
            whose sub-folders, are named as parts is such a mapping.
        roots: folders that links inside a named folder may lead to.

    Raises:
        UserError: a part is unknown, nothing has such a name, two parts share a file, only some names in a folder
            are those of parts, or what a folder holds is a link out of it.
    """
    if isinstance(path, Mapping):
        wrong = [key for key in path if key not in PARTS]
        if not path or wrong:
            near = nearest(str(wrong[0]), PARTS) if wrong else ""
            raise UserError(
                f"path: must be files or a mapping of {', '.join(PARTS)} to files, got {dict(path)!r}; {near}"
                "correct it."
            )
        files: dict[str, list[Path]] = {part: _expand(path[part], roots) for part in PARTS if part in path}
    else:
        files = _parts_inside(path, roots) or {"all": _expand(path, roots)}
    real = [file.resolve() for each in files.values() for file in each]
    if len(set(real)) < len(real):
        raise UserError(
            f"path: every part must have files of its own, got {path!r}; name files once for all parts to split them."
        )
    return files


def read_files(
    files: Sequence[Path], image_folder: Path | None, bad: BadRows, roots: Sequence[str | Path] = ()
) -> Records:
    """The records of files, in order.

    Args:
        files: as `part_files` gives them, at least one.
        image_folder: relative paths of pictures start here; None: beside the file that names them.
        bad: hears of rows that cannot be read.
        roots: folders that pictures may lie in beside that one.

    Raises:
        UserError: a file cannot be read as a whole, or shards stand among other files.
    """
    shards = [file for file in files if file.suffix == ".tar"]
    if shards:
        if len(shards) < len(files):
            raise UserError(
                f"path: tar shards must stand alone, got {', '.join(map(str, files))}; make two tasks."
            )
        return TarRecords(shards, PictureRoots.of(image_folder or shards[0].parent, *roots))
    if len(files) == 1:
        return _read(files[0], image_folder, "", bad, roots)
    return ChainedRecords(
        [_read(file, image_folder, f"{_short(file, files)}:", bad, roots) for file in files]
    )


def stem(files: Sequence[Path]) -> str:
    """A short name of files: of one its name without the suffix, of several their folder's."""
    return files[0].stem if len(files) == 1 else files[0].absolute().parent.name


def _read(
    file: Path, image_folder: Path | None, prefix: str, bad: BadRows, roots: Sequence[str | Path]
) -> Records:
    own = file if file.is_dir() else file.parent
    folder = PictureRoots.of(own if image_folder is None else image_folder, *roots)
    if file.suffix in TABLE_SUFFIXES or (file / "state.json").is_file():
        from lmmcl.data.files.table_records import (
            read_table,  # here, as it imports datasets, which takes a second
        )

        return read_table(file, folder, prefix)
    if file.is_dir():
        return FolderRecords(file, PictureRoots.of(file, *roots), prefix)
    return read_text(file, folder, prefix, bad)


def _short(file: Path, files: Sequence[Path]) -> str:
    """A file's name, with as many folders as tell it from the others."""
    parts = file.absolute().parts
    for count in range(1, len(parts)):
        end = parts[-count:]
        if sum(other.absolute().parts[-count:] == end for other in files) == 1:
            return "/".join(end)
    return str(file)


def _expand(path: Any, roots: Sequence[str | Path]) -> list[Path]:
    if isinstance(path, list | tuple) and path:
        return [file for entry in path for file in _expand(entry, roots)]
    if not isinstance(path, str | Path) or not str(path):
        raise UserError(f"path: must name files, got {path!r}; correct it.")
    files = [file for text in _braces(str(path)) for file in _matching(text)]
    return [file for found in files for file in (_held(found, roots) if found.is_dir() else [_known(found)])]


def _held(folder: Path, roots: Sequence[str | Path]) -> list[Path]:
    """`_inside`, none of which is a link that leads out."""
    found = _inside(folder)
    refuse_links_out([one for one in found if one != folder], folder, roots)
    return found


def _braces(text: str) -> list[str]:
    """``a-{008..010}.tar`` as ``a-008.tar``, ``a-009.tar``, ``a-010.tar``; ``{a,b}`` as both."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", text)
    if found is None or Path(text).exists():
        return [text]
    if found[3] is not None:
        middles = found[3].split(",")
    else:
        middles = [f"{number:0{len(found[1])}d}" for number in range(int(found[1]), int(found[2]) + 1)]
        if not middles:
            raise UserError(
                f"path: {text} counts from {found[1]} to {found[2]}; write the smaller number first."
            )
    return [
        one for middle in middles for one in _braces(text[: found.start()] + middle + text[found.end() :])
    ]


def _matching(text: str) -> list[Path]:
    if Path(text).exists():
        return [Path(text)]
    if any(mark in text for mark in "*?["):
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        if found:
            return found
        raise UserError(f"path: nothing matches {text} (seen from {Path.cwd()}); correct the path.")
    folder = Path(text).parent
    near = nearest(Path(text).name, sorted(one.name for one in folder.iterdir())) if folder.is_dir() else ""
    raise UserError(f"path: there is no file {text} (seen from {Path.cwd()}); {near}correct the path.")


def _known(file: Path) -> Path:
    if file.suffix not in SUFFIXES:
        raise UserError(
            f"path: a file of rows must end in {', '.join(SUFFIXES)}, got {file}; convert or rename it."
        )
    return file


def _inside(folder: Path) -> list[Path]:
    """The files of rows in a folder, or the folder itself: a saved dataset, or one of pictures by class."""
    if (folder / "state.json").is_file():
        return [folder]
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if metadata:
        return metadata[:1]
    files = _row_files(folder)
    if len({file.suffix for file in files}) > 1:
        raise UserError(
            f"path: the folder {folder} must hold files of rows of one kind, got {files[0].name} and "
            f"{next(file for file in files if file.suffix != files[0].suffix).name}; name the files."
        )
    found = files or _sub_folders(folder)
    groups = _by_part(found)
    if len(groups) > 1 or (groups and not files and "" not in groups):
        got = ", ".join(one.name for part, group in groups.items() if part for one in group[:2])
        odd = ", ".join(one.name for one in groups.get("", [])[:3])
        beside = f" beside {odd}" if odd else ""
        raise UserError(
            f"path: what a folder holds must be named by part throughout or not at all, got {got}{beside} in "
            f"{folder}; write path: {{train: ..., test: ...}}, or move or rename what is no part."
        )
    return files or [folder]


def _row_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in SUFFIXES
        and file.name not in _NO_ROWS
        and file.is_file()
        and not is_made_by_a_program(file.name)
    )


def _sub_folders(folder: Path) -> list[Path]:
    """Those that a person made, sorted."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and not is_made_by_a_program(one.name))


def _by_part(found: Sequence[Path]) -> dict[str, list[Path]]:
    """Files or folders by the part that they are named as; under an empty text those named as none or as several.

    A folder's whole name has to be that of a part; of a file's name one word: ``train2017.json``, ``vqa_test.jsonl``.
    """
    groups: dict[str, list[Path]] = {}
    for one in found:
        words = [one.name.lower()] if one.is_dir() else re.split(r"[^a-z]+", one.stem.lower())
        parts = {_PART_NAMES[word] for word in words if word in _PART_NAMES}
        groups.setdefault(parts.pop() if len(parts) == 1 else "", []).append(one)
    return groups


def _parts_inside(path: Any, roots: Sequence[str | Path]) -> dict[str, list[Path]]:
    """The files of each part of a folder whose files of rows or sub-folders are named as parts; else none."""
    folder = Path(path) if isinstance(path, str | Path) else None
    if folder is None or not folder.is_dir() or (folder / "state.json").is_file():
        return {}
    if not any((folder / name).is_file() for name in METADATA):
        files = _row_files(folder)
        groups = _by_part(files)
        if len(groups) > 1 and "" not in groups and len({file.suffix for file in files}) == 1:
            refuse_links_out(files, folder, roots)
            return {part: groups[part] for part in PARTS if part in groups}
    groups = _by_part(_sub_folders(folder))
    if "" in groups or not {"train", "test"} & groups.keys() or any(group[1:] for group in groups.values()):
        return {}
    refuse_links_out([one for group in groups.values() for one in group], folder, roots)
    return {part: _expand(groups[part], roots) for part in PARTS if part in groups}
