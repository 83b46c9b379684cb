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
    """Finds the answers in a rendered conversation.

    The rule: an assistant's turn begins where the chat template stops when it is asked for a generation
    prompt, and ends with the first control token behind the answer (the end of turn). What the template
    writes between these (a space, say) the model has to write too, so it is learned. A template that ends the
    last turn with no control token (LLaVA-1.5) gets the tokenizer's end-of-text token, without which the
    model would never learn to stop.

    Args:
        where: names the row in errors.
        text: the whole conversation as the chat template renders it.
        prefixes: for every assistant turn, the conversation before it with a generation prompt.
        answers: the text of every assistant turn.
        specials: the tokenizer's control tokens.
        eos: its end-of-text token.

    Returns:
        The text (with the end-of-text token if one was missing) and the character span of every turn.

    Raises:
        UserError: the template does not keep its generation prompt, or an answer.
    """
    spans: list[Span] = []
    for turn, (prefix, answer) in enumerate(zip(prefixes, answers, strict=True)):
        if not text.startswith(prefix):
            raise UserError(
                f"{where}: the chat template must render a conversation as its generation prompt and the "
                f"answer, but turn {turn + 1} is prompted with ...{prefix[-40:]!r} and rendered otherwise; "
                "use a template that keeps earlier turns as they were."
            )
        rest = text[len(prefix) :]
        lead = len(rest) - len(rest.lstrip())
        body = answer.strip()
        if not rest.startswith(body, lead):
            raise UserError(
                f"{where}: the chat template must write the answer right behind its generation prompt; the "
                f"answer is {body[:40]!r}, behind the prompt stands {rest[:40]!r}; use a template that adds "
                "nothing there."
            )
        stop = len(prefix) + lead + len(body)
        behind = text[stop:]
        glue = len(behind) - len(behind.lstrip())
        end = next((token for token in specials if behind.startswith(token, glue)), None)
        if end is not None:
            stop += glue + len(end)
        elif turn == len(answers) - 1:
            if behind.strip() or eos is None:
                raise UserError(
                    f"{where}: an answer must end with an end-of-turn token, but the chat template writes "
                    f"{behind[:40]!r} behind it and the tokenizer has end-of-text token {eos!r}; correct the "
                    "template."
                )
            text = text[:stop] + eos
            stop = len(text)
        spans.append((len(prefix), stop))
    return text, spans


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
        return (
            0,
            0,
        )  # the tokenizer glued the answer to the prompt: no token boundary, nothing that could be learned
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
