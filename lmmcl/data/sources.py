"""Rows from files on disk, checked as soon as they are named."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from lmmcl.data.bad_row import BadRows, OnBadRow, RowError
from lmmcl.data.columns import Columns, Prompt
from lmmcl.data.conversation import RowForm
from lmmcl.data.files.records import Records
from lmmcl.data.files.row_files import METADATA, part_files, read_files, stem
from lmmcl.data.row import Row
from lmmcl.data.row_check import Twins, check_rows
from lmmcl.data.row_view import RowView
from lmmcl.data.shares import part_of, shares_of
from lmmcl.data.task import Part
from lmmcl.errors import UserError


@dataclass(frozen=True)
class _MakeRow:
    """Makes the row at a position of the records."""

    records: Records
    form: RowForm

    def __call__(self, place: int) -> Row:
        return self.form.row(self.records[place], self.records.place(place))


class FileSource:
    """Rows from files, or from files per part.

    Everything that can be known without decoding pictures is checked here, before a model is loaded. Files without
    a part are cut into parts by a hash of each row's id: a row stays in its part when others are added or removed. With
    files per part and none for ``dev``, dev is cut in the same way from train (from test where there is no train). No
    row may stand in two parts. Rows are made when they are asked for; what is kept in memory is the text of JSON and
    CSV files, and nothing of the others.

    Args:
        path: a file, a folder, a text with ``*`` or ``{000..127}``, a list of these, or a mapping of ``train``,
            ``dev``, ``test`` to them. Files are ``.json``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``, ``.arrow`` or
            WebDataset shards (``.tar``). A folder is one of such files, a saved ``datasets.Dataset``, pictures with
            ``metadata.csv`` (or ``.jsonl``, ``.parquet``; its column ``file_name``), or a sub-folder of pictures per
            class, whose name is the answer; or its files or sub-folders of these are named as parts. Relative to the
            working directory.
        image_folder: relative paths of pictures start here; None: beside the file that names them.
        columns: the file's names for ``id``, ``question``, ``answer``, ``image``, ``messages``, ``gold``, ``options``
            and ``category``, where they differ from these, also ways inside one (``answers[0]``, ``meta.answer``);
            ``id: null`` takes the row number as the id.
        split: shares of the parts of files without parts, adding up to 1; None: train 0.8, dev 0.1, test 0.1. With
            files per part only ``dev`` may be given: the share that is cut for it (0.1).
        held_out: the rows are only measured; the default shares are then dev 0.1, test 0.9.
        prompt: the user's turn as a template with columns in braces, instead of the question; see `Prompt`.
        on_bad_row: ``drop`` leaves out rows that break and lists them in ``bad_rows``.
        train_only: all rows are for training; a part has to be named for nothing else.
        image_roots: folders that pictures may lie in beside ``image_folder``.

    Attributes:
        stem: name of the (test) file without its suffix.
        bad_rows: rows that were left out.

    Raises:
        UserError: with file and row: bad JSON (a key twice, too), an unknown form, an id twice, an empty answer, a
            missing picture, a row in two parts, a conversation that says what no row holds (`lmmcl.data.unread`); a
            column of ``columns`` that no row has; or an empty part.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path] | Mapping[str, Any],
        image_folder: str | Path | None = None,
        columns: Mapping[str, str | None] | None = None,
        split: Mapping[str, float] | None = None,
        held_out: bool = False,
        prompt: str | None = None,
        on_bad_row: OnBadRow = "error",
        train_only: bool = False,
        image_roots: Sequence[str | Path] = (),
    ) -> None:
        files = part_files(path, image_roots)
        if train_only and set(files) <= {"all", "train"}:
            shares = {name: {"train": 1.0} for name in files}
        else:
            shares = shares_of(files, split, held_out)
        self.stem = stem(files["test"] if "test" in files else next(iter(files.values())))
        self._name = ", ".join(str(one[0]) + ("..." if one[1:] else "") for one in files.values())
        self._parts: dict[str, RowView] = {}
        bad = BadRows(on_bad_row)
        self.bad_rows = bad.found
        template = None if prompt is None else Prompt(prompt)
        digest = sha256(json.dumps([sorted(shares.items()), prompt]).encode())
        twins = Twins()
        folder = None if image_folder is None else Path(image_folder)
        read = {part: read_files(paths, folder, bad, image_roots) for part, paths in files.items()}
        Columns(columns or {}).check(chain.from_iterable(read.values()), self._name)
        for part, paths in files.items():
            form = RowForm(_columns(columns, paths), template)
            records = read[part]
            places = {name: array("q") for name in shares[part]}
            for row in check_rows(records, form, bad):
                name = part_of(row.id, shares[part])
                first = twins.first(name, row)
                if first[0] != name:
                    bad.report(_twin(first, (name, row.id), str(records.place(row.place))))
                    continue
                places[name].append(row.place)
                digest.update(json.dumps(row.sizes).encode())
            if not any(places.values()):
                raise UserError(f"path: {self._name} must hold rows{self._dropped()}, it is empty.")
            digest.update(f"{records.fingerprint()} {form.identity()}".encode())
            for name, chosen in places.items():
                self._parts[name] = RowView(chosen, _MakeRow(records, form))
        self._fingerprint = digest.hexdigest()
        if not held_out:
            self.split("train")
        if not train_only:
            self.split("test")

    def split(self, name: Part) -> Sequence[Row]:
        """The rows of a part, in the order of the files.

        Raises:
            UserError: there are none.
        """
        rows = self._parts.get(name, ())
        if not rows:
            found = ", ".join(f"{part} {len(rows)}" for part, rows in self._parts.items())
            raise UserError(
                f"path: {self._name} must have rows for {name}, got {found}{self._dropped()}; give path: {{train: ..., "
                "test: ...}, more rows, or other shares in split."
            )
        return rows

    def fingerprint(self) -> str:
        """A SHA-256 of the rows, the sizes of their pictures, and how they are split."""
        return self._fingerprint

    def _dropped(self) -> str:
        if not self.bad_rows:
            return ""
        first = self.bad_rows[0]
        return (
            f" ({len(self.bad_rows)} were dropped, the first: {first.file}, row {first.row}: {first.reason})"
        )


def _twin(first: tuple[str, str], row: tuple[str, str], where: str) -> RowError:
    """The error of a row that shows and asks the same as one of another part."""
    return RowError(
        where,
        f"no row may stand in two parts, got row {first[1]!r} in {first[0]} and the same as row {row[1]!r} in "
        f"{row[0]}; remove one.",
    )


def _columns(given: Mapping[str, str | None] | None, files: Sequence[Path]) -> Columns:
    names = Columns(given or {}).names
    if files[0].name in METADATA and "image" not in names:
        return Columns({**names, "image": "file_name"})
    return Columns(names)
