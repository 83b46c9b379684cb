"""What a checkpoint's chat template makes of a conversation, and which of its tokens are learned."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.data.mask import Span, answer_spans, token_span
from lmmcl.data.row import Message, Row
from lmmcl.errors import UserError

REMEMBERED = 8192
"""Distinct conversations whose rendering is kept: many tasks ask a few questions of ever new pictures."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text and tokens, before its pictures are expanded.

    Args:
        text: as the chat template writes it.
        ids: its token ids.
        learned: first and last-but-one position in ``ids`` of every answer with its end of turn.
    """

    text: str
    ids: Sequence[int] = ()
    learned: Sequence[Span] = ()


def text_of(message: Message) -> str:
    """The text parts of a message, joined."""
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


class ChatTemplate:
    """Renders conversations and proves what is learned of them.

    The rule is `lmmcl.data.mask.answer_spans`; it needs no ``{% generation %}`` mark. Every conversation
    proves it: the learned tokens, decoded, must give back the answers and their ends of turn.

    Args:
        processor: the checkpoint's processor, with a fast tokenizer and a chat template.

    Raises:
        UserError: the processor has no chat template or no fast tokenizer.
    """

    def __init__(self, processor: Any) -> None:
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None or not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"model.path: labels need a processor with a fast tokenizer, got {type(processor).__name__} "
                f"with {type(tokenizer).__name__}; use a checkpoint that has tokenizer.json."
            )
        if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
            raise UserError(
                f"model.path: the processor ({type(processor).__name__}) must have a chat template; add "
                "chat_template.jinja to the checkpoint or use its instruction-tuned variant."
            )
        self.processor = processor
        self.tokenizer = tokenizer
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._specials = sorted(
            {*added, *tokenizer.all_special_tokens}, key=lambda token: (-len(token), token)
        )
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(self._specials))
        self._known: dict[tuple[Any, ...], Rendered] = {}

    def conversations(self, rows: Sequence[Row]) -> list[Rendered]:
        """Whole conversations with what is learned of them.

        Args:
            rows: each ends with the assistant's answer.

        Raises:
            UserError: a row has an empty answer, or one that template or tokenizer cannot write.
        """
        return self._remembered(rows, [(True, *_key(row.messages)) for row in rows], self._prove)

    def prompts(self, rows: Sequence[Row]) -> list[Rendered]:
        """The conversations up to the last answer, with a generation prompt and nothing to learn."""
        keys = [(False, *_key(_before_answer(row))) for row in rows]
        return self._remembered(rows, keys, self._prompt)

    def adds_special_tokens(self, text: str) -> bool:
        """Whether the tokenizer has to add its special tokens, or the template has written them already."""
        bos = self.tokenizer.bos_token
        return bos is None or not text.startswith(bos)

    def _remembered(self, rows: Sequence[Row], keys: Sequence[tuple[Any, ...]], make: Any) -> list[Rendered]:
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
        made = dict(zip(missing, make(list(missing.values())), strict=True)) if missing else {}
        found = [made[key] if key in made else self._known[key] for key in keys]
        if len(self._known) + len(made) > REMEMBERED:
            self._known.clear()
        self._known.update(made)
        return found

    def _render(self, conversations: Sequence[Sequence[Message]], prompt: bool) -> list[str]:
        plain = [[dict(message) for message in messages] for messages in conversations]
        texts = self.processor.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt)
        return list(texts)

    def _prompt(self, rows: Sequence[Row]) -> list[Rendered]:
        return [Rendered(text) for text in self._render([_before_answer(row) for row in rows], prompt=True)]

    def _prove(self, rows: Sequence[Row]) -> list[Rendered]:
        turns = [_answers(row) for row in rows]
        texts = self._render([row.messages for row in rows], prompt=False)
        before = [
            row.messages[:turn] for row, positions in zip(rows, turns, strict=True) for turn in positions
        ]
        prefixes = iter(self._render(before, prompt=True))
        spans = []
        for index, (row, positions) in enumerate(zip(rows, turns, strict=True)):
            texts[index], found = answer_spans(
                f"row {row.id!r}",
                texts[index],
                [next(prefixes) for _ in positions],
                [text_of(row.messages[turn]) for turn in positions],
                self._specials,
                self.tokenizer.eos_token,
            )
            spans.append(found)
        encoded = self.tokenizer(texts, add_special_tokens=self.adds_special_tokens(texts[0]), padding=False)
        rendered = []
        for row, text, encoding, found in zip(rows, texts, encoded.encodings, spans, strict=True):
            learned = [token_span(encoding, text, span) for span in found]
            for (first, last), (begin, end) in zip(learned, found, strict=True):
                self._check(row, encoding.ids[first:last], text[begin:end])
            rendered.append(Rendered(text, encoding.ids, learned))
        return rendered

    def _check(self, row: Row, tokens: Sequence[int], answer: str) -> None:
        """Decodes what is learned and compares it with the answer."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if _normal(text) != _normal(answer):
            raise UserError(
                f"row {row.id!r}: labels must decode to the answer and its end of turn, {answer!r}, but "
                f"decode to {text!r}; the tokenizer cannot write this answer behind its prompt, reword it."
            )
        if self._special_ids.intersection(tokens[:-1]):
            raise UserError(
                f"row {row.id!r}: an answer must hold no control token, got {answer!r}; remove it from the "
                "row."
            )


def _normal(text: str) -> str:
    """Text up to what tokenizers normalise: the form of Unicode and white space around."""
    return unicodedata.normalize("NFKC", text).strip()


def _key(messages: Sequence[Message]) -> tuple[Any, ...]:
    """What of a conversation the template sees."""
    return tuple(
        (message["role"], *((part["type"], part.get("text")) for part in message["content"]))
        for message in messages
    )


def _before_answer(row: Row) -> Sequence[Message]:
    return row.messages[:-1] if row.messages[-1]["role"] == "assistant" else row.messages


def _answers(row: Row) -> list[int]:
    """Positions of the assistant's turns."""
    positions = [index for index, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not positions or positions[-1] != len(row.messages) - 1:
        raise UserError(
            f"row {row.id!r}: the last message must be the assistant's answer; add it or remove the row."
        )
    for index in positions:
        if not text_of(row.messages[index]).strip():
            raise UserError(
                f"row {row.id!r}: message {index + 1} is an empty answer; write one or remove the row."
            )
    return positions
