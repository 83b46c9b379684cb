"""ScienceQA: lettered school questions with a picture, some with a hint.

Data: lmms-lab/ScienceQA, configuration ScienceQA-IMG, test, and for dev validation (columns as on its card; ``answer``
is the place of the right choice, from 0). The prompt is that of lmms-eval 0.7.3 (``scienceqa_img``), the hint before it
as the context.
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
    """The hint, the question with its choices and the right letter."""
    options = list(record["choices"])
    gold = chr(ord("A") + record["answer"])
    context = f"Context: {record['hint']}\n" if record["hint"] else ""
    prompt = f"{context}{record['question']}\n{lettered(options)}\n{LETTER_PROMPT}"
    meta = {"options": options, "category": record["category"], "subject": record["subject"]}
    return question_row(str(number), prompt, gold, record["image"], gold, meta)


TASK = Task(
    "scienceqa",
    MeasuredSource(
        "scienceqa",
        {
            "dev": HubTable("lmms-lab/ScienceQA", "validation", "ScienceQA-IMG"),
            "test": HubTable("lmms-lab/ScienceQA", "test", "ScienceQA-IMG"),
        },
        make_row,
        identity=LETTER_PROMPT,
    ),
    letter,
    16,
    lmms_eval=SCORERS["scienceqa"],
)
