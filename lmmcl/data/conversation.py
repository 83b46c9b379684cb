"""Turns a record of any supported form into a conversation, its pictures and its gold answer."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmmcl.data.bad_row import RowError
from lmmcl.data.columns import Columns, Prompt
from lmmcl.data.files.records import Place
from lmmcl.data.picture_places import parts_of, picture_at, placed
from lmmcl.data.row import Row
from lmmcl.data.unread import refuse_unread

ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_OURS = {"conversations", "messages", "images", "gold", "meta"}


@dataclass(frozen=True)
class RowForm:
    """How a record becomes a row.

    Two forms are known by their keys: a conversation, in ``conversations`` or ``messages`` (LLaVA and ShareGPT: turns
    with ``from`` and ``value``; Hugging Face and OpenAI: ``role`` and ``content``, a text or a list of parts), and a
    question with its answer. A picture stands where the text says ``<image>`` or an image part is; pictures of the
    record without any place come first in the first user turn.

    Args:
        columns: the record's names.
        prompt: writes the user's turn instead of the question.
    """

    columns: Columns = field(default_factory=Columns)
    prompt: Prompt | None = None

    def identity(self) -> str:
        """Changes when the same record would become another row."""
        names = sorted(self.columns.names.items())
        return json.dumps([names, None if self.prompt is None else self.prompt.template])

    def row(self, record: Mapping[str, Any], place: Place) -> Row:
        """Makes the row of a record.

        Args:
            record: the record.
            place: where it stands, for its name and for errors.

        Returns:
            The row. Its gold answer is ``gold`` if the record has one, else the last answer; every other key of the
            record (``options``, ``category``, ``critical``, ...) is in ``meta``.

        Raises:
            RowError: the record has none of the forms, an empty answer or id, no path where a picture must be, other
                pictures in ``image`` than in ``images``, places and pictures that do not match, or says what no row
                holds (`refuse_unread`).
        """
        columns, where = self.columns, str(place)
        messages: list[dict[str, Any]] = []
        inline: list[Any] = []
        for role, content in self._turns(record, where):
            if role not in ROLES:
                raise RowError(
                    where, f"a role must be one of {', '.join(ROLES)}, got {role!r}; correct the row."
                )
            parts, found = parts_of(ROLES[role], content, where)
            inline += found
            messages.append({"role": ROLES[role], "content": parts})
        _check_answers(messages, where)
        sources = placed(messages, inline, self._pictures(record, where), where)
        if (turns := self._conversation(record)) is not None:
            asked = [
                part["text"]
                for message in messages
                for part in message["content"]
                if part["type"] == "text" and message["role"] != "assistant"
            ]
            refuse_unread(record, turns, asked, len(sources), where)
        answer = "".join(part["text"] for part in messages[-1]["content"])
        gold, name = _number(columns.find(record, "gold")), columns.find(record, "id")
        if name is not None and not str(name).strip():
            raise RowError(
                where, "an id must not be empty; write one, or take row numbers: columns: {id: null}."
            )
        return Row(
            id=place.id if name is None else str(name),
            messages=messages,
            images=tuple(picture_at(source, place.folder, where) for source in sources),
            gold=answer if gold is None else gold,
            meta=self._meta(record),
        )

    def _pictures(self, record: Mapping[str, Any], where: str) -> list[Any]:
        """The pictures of ``image`` or ``images``; an ``image`` that the columns name goes before ``images``."""
        one, several = _listed(self.columns.find(record, "image")), _listed(record.get("images"))
        if one and several and one != several and "image" not in self.columns.names:
            raise RowError(
                where,
                f"its pictures must stand in one column, got {str(one)[:60]} in 'image' and {str(several)[:60]} in "
                "'images'; name the right one: columns: {image: images}, or {image: image}.",
            )
        return one or several

    def _turns(self, record: Mapping[str, Any], where: str) -> list[tuple[Any, Any]]:
        turns = self._conversation(record)
        if turns is None:
            return [("user", self._question(record, where)), ("assistant", self._answer(record, where))]
        if self.prompt is not None:
            raise RowError(
                where, "a conversation brings its questions, prompt needs a question; remove one of them."
            )
        if not isinstance(turns, list | tuple):
            raise RowError(
                where, f"a conversation must be a list of turns, got {str(turns)[:60]!r}; correct it."
            )
        return [(_get(turn, "role", "from", where), _get(turn, "content", "value", where)) for turn in turns]

    def _conversation(self, record: Mapping[str, Any]) -> Any:
        """The turns of a conversation as they stand there; None: the record is a question with its answer."""
        return _structured(record.get("conversations") or self.columns.find(record, "messages"))

    def _question(self, record: Mapping[str, Any], where: str) -> str:
        if self.prompt is None:
            return str(self._column(record, "question", where))
        try:
            return self.prompt.fill(record)
        except KeyError as error:
            there = ", ".join(map(str, record))
            raise RowError(
                where, f"prompt names {error.args[0]!r}, the row has only {there}; correct one."
            ) from None

    def _answer(self, record: Mapping[str, Any], where: str) -> str:
        answer = _number(self._column(record, "answer", where))
        if isinstance(answer, str | int | float):
            return str(answer)
        name = self.columns.name("answer")
        raise RowError(
            where,
            f"an answer must be a text or a number, got {str(answer)[:60]}; name one: {{answer: '{name}[0]'}}.",
        )

    def _column(self, record: Mapping[str, Any], key: str, where: str) -> Any:
        value = self.columns.find(record, key)
        if value is None:
            raise RowError(
                where,
                "a row must have 'conversations', 'messages' or a question and an answer; there is no "
                f"{self.columns.name(key)!r} among {', '.join(map(str, record))}; name it in columns: {{{key}: ...}}"
                + (", or write it by prompt." if key == "question" else "."),
            )
        if _number(value) is None:
            raise RowError(where, f"its {key} must not be empty, got {value}; write one or remove the row.")
        return value

    def _meta(self, record: Mapping[str, Any]) -> dict[str, Any]:
        used = self.columns.used(record) | _OURS
        meta = {key: value for key, value in record.items() if key not in used and not _is_picture(value)}
        meta |= dict(_structured(record.get("meta")) or {})
        for key in ("options", "category"):
            value = _structured(self.columns.find(record, key))
            if value is not None:
                meta[key] = value
        return meta


def _is_picture(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


def _number(value: Any) -> Any:
    """A number as it was before a table with gaps made it a float: 3 of 3.0, nothing of NaN; others as they are.

    What is infinite is no number that anybody could answer.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if value.is_integer():
            return int(value)
    return value


def _structured(value: Any) -> Any:
    """A list or mapping that stands as JSON in a text, as in a cell of CSV."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _get(turn: Any, key: str, other: str, where: str) -> Any:
    if isinstance(turn, Mapping):
        for name in (key, other):
            if name in turn:
                return turn[name]
    raise RowError(
        where, f"a turn must have the key {key!r} or {other!r}, got {str(turn)[:60]!r}; correct the row."
    )


def _listed(value: Any) -> list[Any]:
    value = _structured(value)
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_answers(messages: Sequence[Mapping[str, Any]], where: str) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        raise RowError(where, "the last turn must be the assistant's answer; add it or remove the row.")
    for message in messages:
        if message["role"] == "assistant" and not any(part["text"].strip() for part in message["content"]):
            raise RowError(where, "an answer must not be empty; write one or remove the row.")
