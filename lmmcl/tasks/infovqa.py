"""InfographicVQA: questions about infographics.

Data: lmms-lab/DocVQA, configuration InfographicVQA, validation (columns as on its card; the answers of its test split
are not public). The prompt is that of lmms-eval 0.7.3 (``infovqa_val``).
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
    meta = {"answer_type": list(record["answer_type"] or ())}
    return question_row(str(record["questionId"]), prompt, answers[0], record["image"], answers, meta)


TASK = Task(
    "infovqa",
    MeasuredSource(
        "infovqa",
        {"test": HubTable("lmms-lab/DocVQA", "validation", "InfographicVQA")},
        make_row,
        identity=PHRASE_PROMPT,
    ),
    anls,
    32,
    lmms_eval=SCORERS["infovqa"],
)
