"""The places of pictures in a conversation, and which picture stands at each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmmcl.data.bad_row import RowError
from lmmcl.data.pictures.picture import PictureFile
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.data.row import ImageSource
from lmmcl.redaction import redacted

PLACEHOLDER = "<image>"

Part = dict[str, Any]


def parts_of(role: str, content: Any, where: str) -> tuple[list[Part], list[Any]]:
    """The parts of one turn, and for every image part the picture that it names itself, or None.

    Args:
        role: of the turn; ``<image>`` in an answer is a text.
        content: a text or a list of parts.
        where: its row, for errors.

    Raises:
        RowError: it is neither, or a part is no text and no image.
    """
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise RowError(
            where, f"a turn's content must be a text or a list of parts, got {content!r}; correct it."
        )
    parts: list[Part] = []
    pictures: list[Any] = []
    for entry in content:
        part: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
        kind = part.get("type")
        if kind == "text":
            text = part.get("text") or ""
            if not isinstance(text, str):
                raise RowError(
                    where, f"a part of type text must hold a text, got {text!r}; put it in quotes."
                )
            pieces = [text] if role == "assistant" else text.split(PLACEHOLDER)
            for index, piece in enumerate(pieces):
                if index:
                    parts.append({"type": "image"})
                    pictures.append(None)
                # The line breaks around a placeholder belong to it: the chat template writes its own.
                text = piece if len(pieces) == 1 else piece.strip("\n")
                if text:
                    parts.append({"type": "text", "text": text})
        elif kind in ("image", "image_url") and role != "assistant":
            named = next((part[key] for key in ("image_url", "image", "path", "url") if part.get(key)), None)
            parts.append({"type": "image"})
            pictures.append(named.get("url") if isinstance(named, Mapping) else named)
        else:
            raise RowError(
                where,
                "a part of a turn must be a text, or in a user's turn an image, got "
                f"{str(entry)[:60]!r}; correct the row.",
            )
    return parts, pictures


def placed(messages: list[dict[str, Any]], inline: list[Any], given: list[Any], where: str) -> list[Any]:
    """One picture for every place: the one that the part names, else the next of the record's own.

    Args:
        messages: gets places for pictures without any, in front of the first user's turn.
        inline: what the image parts name, None where they name nothing.
        given: the record's own pictures.
        where: their row, for errors.

    Raises:
        RowError: there are more places than pictures, or fewer.
    """
    if given and not inline:
        user = next((message for message in messages if message["role"] == "user"), None)
        if user is not None:
            user["content"] = [*({"type": "image"} for _ in given), *user["content"]]
            inline = [None] * len(given)
    open_places = sum(entry is None for entry in inline)
    if open_places != len(given):
        raise RowError(
            where,
            f"every picture must have its place in the text, got {len(given)} pictures for "
            f"{open_places} places ({PLACEHOLDER} or image parts); correct the row.",
        )
    following = iter(given)
    return [next(following) if entry is None else entry for entry in inline]


def picture_at(source: Any, folder: PictureRoots, where: str) -> ImageSource:
    """What opens a picture as a record names it.

    Args:
        source: a path, or a function that opens it.
        folder: where it may lie.
        where: its row, for errors.

    Raises:
        RowError: it is an address or no path, or no file may be named here.
    """
    if callable(source):
        opener: Callable[[], Any] = source
        return opener
    if not isinstance(source, str) or not source:
        raise RowError(
            where, f"a picture must be a path to a file, got {source!r}; correct or remove the row."
        )
    if source.startswith(("http://", "https://", "data:")):
        raise RowError(
            where,
            f"a picture must be a file on disk, got {redacted(source[:2000])[:60]!r}; download it first.",
        )
    if not folder.roots:
        raise RowError(
            where, f"a picture must stand in the table itself, got the path {source[:60]!r}; use files: path."
        )
    return PictureFile(folder.start / source.removeprefix("file://"), where, folder.roots)
