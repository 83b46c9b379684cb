"""TimeClock: the time that a clock shows.

Data: AvaXiao/clockreading-time (``image``, ``question``, ``answer`` as ``HH:MM``, as the study's public code reads
them; its only split is called train and is the test). The study names no public training set, so training needs rows
of one's own: ``{task: time_clock, train: rows.jsonl}``, whose user turn is `QUESTION` and whose answer is ``HH:MM``.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import clock
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import question_row, without_place

QUESTION = "What time does the clock show in this image?"
PROMPT = "Answer with the time in HH:MM format."


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question, with the format asked for, and the time."""
    answer = record["answer"].strip()
    prompt = f"{without_place(record['question'])}\n{PROMPT}"
    return question_row(f"test-{number}", prompt, answer, record["image"], answer)


TASK = Task(
    "time_clock",
    MeasuredSource(
        "time_clock", {"test": HubTable("AvaXiao/clockreading-time", "train")}, make_row, identity=PROMPT
    ),
    clock,
    32,
    lmms_eval=SCORERS["time_clock"],
)
