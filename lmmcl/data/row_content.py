"""What a prompt is made of, as a checksum: its messages and the contents of its pictures, without decoding files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lmmcl.data.pictures.picture import PictureFile, open_picture
from lmmcl.data.row import ImageSource, Row


class RowContents:
    """Checksums of rows; that of an encoded picture is remembered as long as its file or table is the same."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def prompt(self, row: Row) -> str:
        """A SHA-256 of all that the prompt of a row is made of: its messages but the answer, and its pictures."""
        pictures = [self._picture(_source(image, row), f"row {row.id!r}") for image in row.images]
        asked = row.messages[:-1] if row.messages[-1]["role"] == "assistant" else row.messages
        return sha256(json.dumps([_plain(asked), pictures]).encode()).hexdigest()

    def same(self, rows: Sequence[Row], prompts: Sequence[str]) -> bool:
        """Whether rows whose pictures lie in files still are what `prompt` said of them."""
        return all(
            self.prompt(row) == before
            for row, before in zip(rows, prompts, strict=True)
            if all(hasattr(_source(image, row), "identity") for image in row.images)
        )

    def _picture(self, source: ImageSource, where: str) -> str:
        identity, encoded = getattr(source, "identity", None), _encoded(source)
        if identity is None or encoded is None:
            picture = open_picture(source, where)
            return sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
        known = identity()
        if known not in self._known:
            self._known[known] = sha256(encoded()).hexdigest()
        return self._known[known]


def _source(image: ImageSource, row: Row) -> Any:
    return PictureFile(image, f"row {row.id!r}") if isinstance(image, Path) else image


def _encoded(source: ImageSource) -> Callable[[], bytes] | None:
    """What reads a picture as it lies in its file, a table or an archive; None where it lies nowhere."""
    if not isinstance(source, PictureFile):
        return getattr(source, "encoded", None)

    def read() -> bytes:
        source.check()
        return source.path.read_bytes()

    return read


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
