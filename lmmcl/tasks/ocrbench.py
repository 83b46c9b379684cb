"""OCRBench: a thousand questions about writing, of ten kinds.

Data: echo840/OCRBench, test (``dataset``, ``question``, ``question_type``, ``answer`` as a list, ``image``, as on its
card). The prompt is that of lmms-eval 0.7.3 (``ocrbench``): the question alone. A mean of 100 is its score of 1000.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import substring
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import question_row


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question, its answers, its kind and where it was taken from."""
    answers = list(record["answer"])
    meta = {"category": record["question_type"], "dataset": record["dataset"]}
    return question_row(str(number), record["question"].strip(), answers[0], record["image"], answers, meta)


TASK = Task(
    "ocrbench",
    MeasuredSource("ocrbench", {"test": HubTable("echo840/OCRBench", "test")}, make_row),
    substring,
    64,
    lmms_eval=SCORERS["ocrbench"],
)
