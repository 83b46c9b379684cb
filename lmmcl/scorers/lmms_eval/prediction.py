"""What every task of lmms-eval does to a prediction before it is scored, and the forms its answers have."""

from typing import Any


def stripped(prediction: str | None) -> str:
    """The prediction without white space at its ends; a missing one is empty."""
    return "" if prediction is None else prediction.strip()


def accepted_answers(gold: Any) -> list[str]:
    """The accepted answers: of a list all, a single text, none of None."""
    return [gold] if isinstance(gold, str) else list(() if gold is None else gold)
