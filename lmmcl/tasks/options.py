"""Reads the lettered options that a question lists in its own text."""

import re
from string import ascii_uppercase

_MARK = re.compile(r"(?:^|(?<=[\s,;]))\(?([A-Z])(?:[.:)]|\s:)\s*", re.MULTILINE)


def written_options(question: str) -> list[str] | None:
    """The texts of the options that a question ends with.

    Known are ``A. first``, ``A: first`` and ``(A) first``, on lines of their own or one after the other. The options
    are the last run of marks that begins with A and follows the alphabet; the last option ends with its line.

    Args:
        question: the text of the question, its options and perhaps an instruction after them.

    Returns:
        The texts in order, without the commas between them; None where fewer than two options are found.
    """
    marks = list(_MARK.finditer(question))
    starts = [place for place, mark in enumerate(marks) if mark[1] == "A"]
    for start in reversed(starts):
        run = [marks[start]]
        for mark in marks[start + 1 :]:
            if len(run) < len(ascii_uppercase) and mark[1] == ascii_uppercase[len(run)]:
                run.append(mark)
        if len(run) > 1:
            ends = [mark.start() for mark in run[1:]]
            last = question.find("\n", run[-1].end())
            ends.append(len(question) if last < 0 else last)
            return [question[mark.end() : end].strip(" ,;\n") for mark, end in zip(run, ends, strict=True)]
    return None
