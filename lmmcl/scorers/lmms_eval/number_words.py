"""The number words that the study's counting tasks know, in the order in which it tries them."""

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
)

NUMBER_WORDS: dict[str, int] = {word: value for value, word in enumerate(_WORDS.split())}


def whole(digits: str) -> int | None:
    """The number that digits of any script write; None where Python refuses to read so many of them."""
    try:
        return int(digits)
    except ValueError:
        return None
