"""What a checkpoint's chat template makes of a conversation, and which of its tokens are learned."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.data.batches.mask import Span, answer_spans, token_span
from lmmcl.data.row import Message, Row
from lmmcl.errors import UserError
from lmmcl.quirks import learns_suffixes, template_arguments, template_of

REMEMBERED = 8192
"""Distinct conversations whose rendering is kept: many tasks ask a few questions of ever new pictures."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text and tokens, before its pictures are expanded.

    Args:
        text: as the chat template writes it.
        ids: its token ids.
        learned: first and last-but-one position in ``ids`` of every answer with its end of turn.
        suffix: the answer, where the processor takes it apart from the text.
    """

    text: str
    ids: Sequence[int] = ()
    learned: Sequence[Span] = ()
    suffix: str | None = None


def text_of(message: Message) -> str:
    """The text parts of a message, joined."""
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


class ChatTemplate:
    """Renders conversations and proves what is learned of them.

    The rule is `lmmcl.data.batches.mask.answer_spans`; it needs no ``{% generation %}`` mark. Every conversation
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
        if not template_of(processor):
            raise UserError(
                f"model.path: the processor ({type(processor).__name__}) must have a chat template; add "
                "chat_template.jinja to the checkpoint or use its instruction-tuned variant."
            )
        self.processor = processor
        self.tokenizer = tokenizer
        self.suffixes = learns_suffixes(processor)
        self._arguments = template_arguments(processor)
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._specials = sorted(
            {*added, *tokenizer.all_special_tokens}, key=lambda token: (-len(token), token)
        )
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
        plain = [[_plain(message) for message in messages] for messages in conversations]
        texts = self.processor.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=prompt, **self._arguments
        )
        return list(texts)

    def _suffixed(self, rows: Sequence[Row], turns: Sequence[Sequence[int]]) -> list[Rendered]:
        """Prompts and answers apart, for a processor that joins them by itself."""
        for row, positions in zip(rows, turns, strict=True):
            if len(positions) > 1 or not row.images:
                raise UserError(
                    f"row {row.id!r}: {type(self.processor).__name__} takes one question with at least one "
                    f"picture and one answer, got {len(positions)} answers and {len(row.images)} pictures; "
                    "remove the row or choose a chat model."
                )
        rendered = []
        for row, prompt in zip(rows, self._prompt(rows), strict=True):
            answer = text_of(row.messages[-1]).strip()
            before, behind = self.tokenizer([prompt.text, answer], add_special_tokens=False).input_ids
            ids = [*before, *behind, self.tokenizer.eos_token_id]
            self._check(row, ids[len(before) :], answer + self.tokenizer.eos_token)
            rendered.append(Rendered(prompt.text, ids, [(len(before), len(ids))], answer))
        return rendered

    def _prompt(self, rows: Sequence[Row]) -> list[Rendered]:
        texts = self._render([_before_answer(row) for row in rows], prompt=True)
        for row, text in zip(rows, texts, strict=True):
            _check_asked(row, text)
        return [Rendered(text) for text in texts]

    def _prove(self, rows: Sequence[Row]) -> list[Rendered]:
        turns = [_answers(row) for row in rows]
        for row, positions in zip(rows, turns, strict=True):
            self._refuse_control_tokens(row, positions)
        if self.suffixes:
            return self._suffixed(rows, turns)
        texts = self._render([row.messages for row in rows], prompt=False)
        before = [
            row.messages[:turn] for row, positions in zip(rows, turns, strict=True) for turn in positions
        ]
        prefixes = iter(self._render(before, prompt=True))
        spans = []
        for index, (row, positions) in enumerate(zip(rows, turns, strict=True)):
            _check_asked(row, texts[index])
            texts[index], found = answer_spans(
                f"row {row.id!r}",
                texts[index],
                [next(prefixes) for _ in positions],
                [text_of(row.messages[turn]).strip() for turn in positions],
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

    def _refuse_control_tokens(self, row: Row, turns: Sequence[int]) -> None:
        for turn in turns:
            answer = text_of(row.messages[turn])
            if any(token in answer for token in self._specials):
                raise UserError(
                    f"row {row.id!r}: an answer must hold no control token, got {answer!r}; remove it from the "
                    "row."
                )

    def _check(self, row: Row, tokens: Sequence[int], answer: str) -> None:
        """Decodes what is learned and compares it with the answer."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if _normal(text) != _normal(answer):
            raise UserError(
                f"row {row.id!r}: labels must decode to the answer and its end of turn, {answer!r}, but "
                f"decode to {text!r}; the tokenizer cannot write this answer behind its prompt, reword it."
            )


def _check_asked(row: Row, text: str) -> None:
    """Refuses a row of which the template leaves something out that is asked; some know no system's turn.

    Args:
        row: as it was given to the template.
        text: as that writes it.
    """
    for message in _before_answer(row):
        for part in message["content"]:
            said = part.get("text", "").strip()
            if message["role"] != "assistant" and said not in text:
                raise UserError(
                    f"row {row.id!r}: the chat template must write all that is asked, and leaves out or changes what "
                    f"the {message['role']} says, {said[:60]!r}; move it into the user's turn, or use a template that "
                    "writes it."
                )


def _plain(message: Message) -> dict[str, Any]:
    """A message as templates take it best: neighbouring texts in one part, an answer without white space around.

    LLaVA-NeXT's template ends the turn behind every text, Mistral 3's reads an answer's first part only, and white
    space that begins an answer would melt into the last token of its prompt.
    """
    parts: list[dict[str, Any]] = []
    for part in message["content"]:
        if part["type"] == "text" and parts and parts[-1]["type"] == "text":
            parts[-1] = {**parts[-1], "text": parts[-1]["text"] + part["text"]}
        else:
            parts.append(dict(part))
    if message["role"] == "assistant" and len(parts) == 1 and parts[0]["type"] == "text":
        parts[0]["text"] = parts[0]["text"].strip()
    return {**message, "content": parts}


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
