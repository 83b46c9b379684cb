"""Which tokens of a conversation are learned: every answer with its end-of-turn token, nothing else."""

from collections.abc import Sequence
from typing import Any

from lmmcl.errors import UserError

Span = tuple[int, int]

CONTEXTS = (8, 5, 3, 2, 1, 0)
"""How many tokens before an answer help to find it again, the most that match."""


def answer_spans(
    where: str,
    text: str,
    prefixes: Sequence[str],
    answers: Sequence[str],
    specials: Sequence[str],
    eos: str | None,
) -> tuple[str, list[Span]]:
    """Finds the answers in a rendered conversation and makes the last one follow its prompt.

    The rule: a conversation is learned as it is asked. The last answer stands right behind the generation
    prompt, whatever white space the template writes between its header and an answer (LLaVA-OneVision
    prompts with ``assistant`` and a line break and renders a space between them, LLaVA-NeXT adds a line break
    that would melt into the prompt's last token); only behind a prompt that ends with a visible character
    does the template's white space stay and is learned (``ASSISTANT:`` and `` yes``). What stands before it
    is history and stays as the template writes it. An answer ends with the first control token behind it
    (the end of turn), and with the end-of-text token if that follows at once (Aya Vision). A template that
    ends the last turn with no control token (LLaVA-1.5) gets the tokenizer's end-of-text token, without
    which the model would never learn to stop.

    Args:
        where: names the row in errors.
        text: the whole conversation as the chat template renders it.
        prefixes: for every assistant turn, the conversation before it with a generation prompt.
        answers: the text of every assistant turn, without white space around.
        specials: the tokenizer's control tokens.
        eos: its end-of-text token.

    Returns:
        The text that is learned from, which begins with the last prefix, and the character span of every
        answer with its end.

    Raises:
        UserError: the template does not keep its generation prompt, or an answer.
    """
    start, first = _place(where, len(prefixes), text, prefixes[-1], answers[-1])
    text = prefixes[-1] + text[start:]
    places = [(len(prefixes[-1]), len(prefixes[-1]) + first - start)]
    earlier = enumerate(zip(prefixes[:-1], answers[:-1], strict=True), start=1)
    places[:0] = [_place(where, turn, text, prefix, body, history=True) for turn, (prefix, body) in earlier]
    spans: list[Span] = []
    for (start, first), body in zip(places, answers, strict=True):
        stop = first + len(body)
        behind = text[stop:]
        glue = len(behind) - len(behind.lstrip())
        end = next((token for token in specials if behind.startswith(token, glue)), None)
        if end is not None:
            stop += glue + len(end)
            if eos is not None and end != eos and text.startswith(eos, stop):
                stop += len(eos)
        elif len(spans) == len(answers) - 1:
            if behind.strip() or eos is None:
                raise UserError(
                    f"{where}: an answer must end with an end-of-turn token, but the chat template writes "
                    f"{behind[:40]!r} behind it and the tokenizer has end-of-text token {eos!r}; correct the "
                    "template."
                )
            text = text[:stop] + eos
            stop = len(text)
        spans.append((start, stop))
    return text, spans


def _place(where: str, turn: int, text: str, prefix: str, body: str, history: bool = False) -> Span:
    """Where a turn's learned text begins and where its answer does, in a conversation that begins with its prompt.

    An earlier turn may have lost the end of its prompt: a template that opens a line of thought (Qwen3.5) leaves it
    out of the history.
    """
    begin = len(prefix) if text.startswith(prefix) else _behind(text, prefix)
    if begin is None and history:
        begin = next((i for i, (one, other) in enumerate(zip(text, prefix, strict=False)) if one != other), 0)
    if begin is None:
        raise UserError(
            f"{where}: the chat template must render a conversation as its generation prompt and the answer, "
            f"but turn {turn} is prompted with ...{prefix[-40:]!r} and rendered otherwise; use a template "
            "that keeps earlier turns as they were."
        )
    rest = text[begin:]
    first = begin + len(rest) - len(rest.lstrip())
    if not text.startswith(body, first):
        raise UserError(
            f"{where}: the chat template must write the answer right behind its generation prompt; the answer "
            f"is {body[:40]!r}, behind the prompt stands {rest[:40]!r}; use a template that adds nothing there."
        )
    return (first if prefix[-1:].isspace() else begin), first


def _behind(text: str, prefix: str) -> int | None:
    """The position in a text behind its prefix, where both may differ in white space; None: they differ."""
    position = 0
    for letter in prefix:
        if letter.isspace():
            continue
        while position < len(text) and text[position].isspace():
            position += 1
        if not text.startswith(letter, position):
            return None
        position += 1
    return position


def token_span(encoding: Any, text: str, span: Span) -> Span:
    """The tokens that write the characters of a span.

    A token that begins with white space of the prompt and ends in the answer belongs to the answer.

    Args:
        encoding: a ``tokenizers.Encoding`` of the text.
        text: the text.
        span: first character and the one behind the last.

    Returns:
        First token and the one behind the last; equal when the tokenizer writes nothing.
    """
    start, stop = span
    found = (encoding.char_to_token(position) for position in range(start, stop))
    first = next((token for token in found if token is not None), None)
    if first is None:
        return 0, 0
    begin = encoding.token_to_chars(first)[0]
    if begin < start and text[begin:start].strip():
        # The tokenizer glued the answer to the prompt: no token boundary, nothing that could be learned.
        return 0, 0
    behind = (encoding.char_to_token(position) for position in range(stop, len(text)))
    last = next((token for token in behind if token is not None), None)
    if last is None:
        found = (encoding.char_to_token(position) for position in range(stop - 1, start - 1, -1))
        last = 1 + next(token for token in found if token is not None)
        # Further tokens of the same character: a byte-level tokenizer writes one character in several.
        while last < len(encoding.ids) and encoding.token_to_chars(last) == encoding.token_to_chars(last - 1):
            last += 1
    return first, last


def align(plain: Sequence[int], full: Sequence[int], spans: Sequence[Span]) -> list[Span] | None:
    """Carries token spans over from a text to the same text with its picture placeholders expanded.

    Expansions only push tokens to the right, each turn by as much as the pictures before it need. From the
    last turn to the first, every span is looked for at the shift of the turn behind it, then ever further
    left.

    Args:
        plain: token ids of the text as rendered.
        full: token ids as the processor made them.
        spans: spans in ``plain``, in order.

    Returns:
        The same spans in ``full``, or None where one cannot be found.
    """
    shift = len(full) - len(plain)
    found: list[Span] = []
    for index in range(len(spans) - 1, -1, -1):
        start, stop = spans[index]
        floor = spans[index - 1][1] if index else 0
        place = _rightmost(plain, full, start, stop, floor, shift)
        if place is None:
            return None
        shift = place
        found.append((start + shift, stop + shift))
    return found[::-1]


def _rightmost(
    plain: Sequence[int], full: Sequence[int], start: int, stop: int, floor: int, most: int
) -> int | None:
    """The largest shift up to ``most`` at which a span stands, with as much context as can match."""
    for context in CONTEXTS:
        begin = max(floor, start - context)
        block = list(plain[begin:stop])
        for shift in range(most, -1, -1):
            if list(full[begin + shift : stop + shift]) == block:
                return shift
    return None
