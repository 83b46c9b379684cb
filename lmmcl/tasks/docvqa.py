"""DocVQA: questions about scanned documents.

Data: lmms-lab/DocVQA, configuration DocVQA, validation (columns as on its card; the answers of its test split are not
public). The prompt is that of lmms-eval 0.7.3 (``docvqa_val``).
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import anls
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import PHRASE_PROMPT, question_row


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question and its accepted answers."""
    answers = list(record["answers"])
    prompt = f"{record['question']}\n{PHRASE_PROMPT}"
    meta = {"question_types": list(record["question_types"] or ())}
    return question_row(str(record["questionId"]), prompt, answers[0], record["image"], answers, meta)


TASK = Task(
    "docvqa",
    MeasuredSource(
        "docvqa",
        {"test": HubTable("lmms-lab/DocVQA", "validation", "DocVQA")},
        make_row,
        identity=PHRASE_PROMPT,
    ),
    anls,
    32,
    lmms_eval=SCORERS["docvqa"],
)
