"""ChartQA: questions about charts, written by people or made from captions.

Data: lmms-lab/ChartQA, test (``type``: human_test or augmented_test, ``question``, ``answer``, ``image``, as
lmms-eval's upload script and task read them). The prompt is that of lmms-eval 0.7.3 (``chartqa``). The scores of the
two kinds are those of the categories ``human`` and ``augmented``.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import relaxed_accuracy
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import question_row

PROMPT = "Answer the question with a single word."


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question, its answer and who wrote it."""
    answer = record["answer"]
    meta = {"category": record["type"].removesuffix("_test")}
    return question_row(str(number), f"{record['question']}\n{PROMPT}", answer, record["image"], answer, meta)


TASK = Task(
    "chartqa",
    MeasuredSource("chartqa", {"test": HubTable("lmms-lab/ChartQA", "test")}, make_row, identity=PROMPT),
    relaxed_accuracy,
    16,
    lmms_eval=SCORERS["chartqa"],
)
