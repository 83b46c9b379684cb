"""AI2D: lettered questions about diagrams of school science.

Data: lmms-lab/ai2d, test (``question``, ``options``, ``answer`` as the place of the right option, from "0", ``image``,
as on its card). The prompt is that of lmms-eval 0.7.3 (``ai2d``).
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import letter
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import LETTER_PROMPT, lettered, question_row


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question with its options and the right letter."""
    options = list(record["options"])
    gold = chr(ord("A") + int(record["answer"]))
    prompt = f"{record['question']}\n{lettered(options)}\n{LETTER_PROMPT}"
    return question_row(str(number), prompt, gold, record["image"], gold, {"options": options})


TASK = Task(
    "ai2d",
    MeasuredSource("ai2d", {"test": HubTable("lmms-lab/ai2d", "test")}, make_row, identity=LETTER_PROMPT),
    letter,
    16,
    lmms_eval=SCORERS["ai2d"],
)
