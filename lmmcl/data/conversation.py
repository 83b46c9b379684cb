"""Turns a record of any supported form into a conversation, its pictures and its gold answer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmmcl.data.picture import PictureFile
from lmmcl.data.row import ImageSource, Row
from lmmcl.errors import UserError

PLACEHOLDER = "<image>"
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
COLUMNS = ("id", "question", "answer", "image")

Part = dict[str, Any]


def record_to_row(
    record: Mapping[str, Any], number: int, where: str, folder: Path, columns: Mapping[str, str | None]
) -> Row:
    """Makes the row of a record.

    Three forms are known by their keys: ``conversations`` (LLaVA: turns with ``from`` and ``value``),
    ``messages`` (Hugging Face and OpenAI: ``role`` and ``content``, a text or a list of parts), and a
    question with its answer. A picture stands where the text says ``<image>`` or an image part is; pictures
    of the record without any place come first in the first user turn.

    Args:
        record: the record.
        number: its row number, its id if it has none.
        where: file and row, for errors.
        folder: relative paths of pictures start here.
        columns: the record's names for ``id``, ``question``, ``answer`` and ``image``; an id of None stands
            for the row number.

    Returns:
        The row. Its gold answer is ``gold`` if the record has one, else the last answer; every other key of
        the record (``options``, ``category``, ``critical``, ...) is in ``meta``.

    Raises:
        UserError: the record has none of the forms, an empty answer, a picture without a file, or places and
            pictures that do not match.
    """
    given = _listed(record.get("images")) + _listed(record.get(columns["image"] or ""))
    if "conversations" in record:
        turns = [(_get(turn, "from", where), _get(turn, "value", where)) for turn in record["conversations"]]
    elif "messages" in record:
        turns = [(_get(turn, "role", where), _get(turn, "content", where)) for turn in record["messages"]]
    else:
        question, reply = (_column(record, columns, key, where) for key in ("question", "answer"))
        turns = [("user", question), ("assistant", reply)]
    inline: list[Any] = []
    messages: list[dict[str, Any]] = []
    for role, content in turns:
        if role not in ROLES:
            raise UserError(
                f"{where}: a role must be one of {', '.join(ROLES)}, got {role!r}; correct the row."
            )
        parts, found = _parts(ROLES[role], content, where)
        inline += found
        messages.append({"role": ROLES[role], "content": parts})
    if not messages or messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's answer; add it or remove the row.")
    for message in messages:
        if (
            message["role"] == "assistant"
            and not "".join(part.get("text", "") for part in message["content"]).strip()
        ):
            raise UserError(f"{where}: an answer must not be empty; write one or remove the row.")
    sources = _placed(messages, inline, given, where)
    answer = "".join(part["text"] for part in messages[-1]["content"])
    used = {
        "conversations",
        "messages",
        "images",
        "gold",
        "meta",
        *(name for name in columns.values() if name),
    }
    meta = {key: value for key, value in record.items() if key not in used} | dict(record.get("meta") or {})
    name = record.get(columns["id"]) if columns["id"] else None
    return Row(
        id=str(number if name is None else name),
        messages=messages,
        images=tuple(_picture(source, folder, where) for source in sources),
        gold=record.get("gold", answer),
        meta=meta,
    )


def _get(turn: Any, key: str, where: str) -> Any:
    if not isinstance(turn, Mapping) or key not in turn:
        raise UserError(
            f"{where}: a turn must have the key {key!r}, got {str(turn)[:60]!r}; correct the row."
        )
    return turn[key]


def _column(record: Mapping[str, Any], columns: Mapping[str, str | None], key: str, where: str) -> str:
    name = columns[key]
    if not name or record.get(name) is None:
        raise UserError(
            f"{where}: a row must have 'conversations', 'messages' or a question and an answer; there is no "
            f"{name!r} among {', '.join(map(str, record))}; name it in columns: {{{key}: ...}}."
        )
    return str(record[name])


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _parts(role: str, content: Any, where: str) -> tuple[list[Part], list[Any]]:
    """The parts of one turn, and for every image part the picture that it names itself, or None."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise UserError(
            f"{where}: a turn's content must be a text or a list of parts, got {content!r}; correct it."
        )
    parts: list[Part] = []
    pictures: list[Any] = []
    for entry in content:
        part: Mapping[str, Any] = dict(entry) if isinstance(entry, Mapping) else {}
        kind = part.get("type")
        if kind == "text":
            text = part.get("text") or ""
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
            raise UserError(
                f"{where}: a part of a turn must be a text, or in a user's turn an image, got "
                f"{str(entry)[:60]!r}; correct the row."
            )
    return parts, pictures


def _placed(messages: list[dict[str, Any]], inline: list[Any], given: list[Any], where: str) -> list[Any]:
    """One picture for every place: the one that the part names, else the next of the record's own."""
    if given and not inline:
        user = next((message for message in messages if message["role"] == "user"), None)
        if user is not None:
            user["content"] = [*({"type": "image"} for _ in given), *user["content"]]
            inline = [None] * len(given)
    open_places = sum(entry is None for entry in inline)
    if open_places != len(given):
        raise UserError(
            f"{where}: every picture must have its place in the text, got {len(given)} pictures for "
            f"{open_places} places ({PLACEHOLDER} or image parts); correct the row."
        )
    following = iter(given)
    return [next(following) if entry is None else entry for entry in inline]


def _picture(source: Any, folder: Path, where: str) -> ImageSource:
    if callable(source):
        opener: Callable[[], Any] = source
        return opener
    if not isinstance(source, str) or not source:
        raise UserError(
            f"{where}: a picture must be a path to a file, got {source!r}; correct or remove the row."
        )
    if source.startswith(("http://", "https://", "data:")):
        raise UserError(f"{where}: a picture must be a file on disk, got {source[:60]!r}; download it first.")
    path = folder / source.removeprefix("file://")
    if not path.is_file():
        raise UserError(f"{where}: there is no picture {path}; correct the row or image_folder.")
    return PictureFile(path, where)
