"""RealWorldQA: questions about everyday photographs, some with lettered options, some to be answered by a word.

Data: lmms-lab/RealWorldQA, test (``image``, ``question``, ``answer``, ``image_path``, as public code reads it). The
question brings its options and its instruction; the prompt is that of lmms-eval 0.7.3 (``realworldqa``): the question
as it stands, without blanks around it.
"""

from collections.abc import Mapping
from typing import Any

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import Score, exact_match, integer, letter, yes_no
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.options import written_options
from lmmcl.tasks.question import question_row


def letter_or_word(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """Scores by what the gold answer is: an option's letter, a number, yes or no, or a word.

    Args:
        prediction: the model's answer.
        gold: the data's answer.
        meta: ``options`` where the question has them.
    """
    text = str(gold).strip().lower()
    if meta.get("options") or text in ("a", "b", "c", "d"):
        return letter(prediction, gold, meta)
    if text.isdecimal():
        return integer(prediction, int(text), meta)
    return (yes_no if text in ("yes", "no") else exact_match)(prediction, gold, meta)


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question as it stands, its answer and its options."""
    question, answer = record["question"].strip(), record["answer"].strip()
    options = written_options(question)
    lettered = options is not None and len(answer) == 1 and 0 <= ord(answer.upper()) - ord("A") < len(options)
    return question_row(
        str(number), question, answer, record["image"], answer, {"options": options} if lettered else {}
    )


TASK = Task(
    "realworldqa",
    MeasuredSource("realworldqa", {"test": HubTable("lmms-lab/RealWorldQA", "test")}, make_row),
    letter_or_word,
    16,
    lmms_eval=SCORERS["realworldqa"],
)
