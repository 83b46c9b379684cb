"""CountBench: how many things a picture shows, two to ten.

Data: vikhyatk/CountBenchQA, test (``image``, ``text``, ``question``, ``number``, as on its card). Prompt and score are
the study's; lmms-eval 0.7.3 asks this set in other words.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import integer
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import question_row, without_place

PROMPT = "Answer the question with number only."


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question and its number."""
    gold = int(record["number"])
    prompt = f"{without_place(record['question'])}\n{PROMPT}"
    return question_row(str(number), prompt, str(gold), record["image"], gold)


TASK = Task(
    "countbench",
    MeasuredSource(
        "countbench", {"test": HubTable("vikhyatk/CountBenchQA", "test")}, make_row, identity=PROMPT
    ),
    integer,
    16,
    lmms_eval=SCORERS["countbench"],
)
