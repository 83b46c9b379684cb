"""SEED-Bench, its picture part: lettered questions of nine abilities.

Data: lmms-lab/SEED-Bench, test (``question``, ``choice_a`` to ``choice_d``, ``answer`` as a letter, ``data_type``,
``question_id``, ``question_type_id``, ``image`` as a list, as lmms-eval reads them). Questions about videos are left
out. The prompt is that of lmms-eval 0.7.3 (``seedbench``, scored as ``seed_image``).
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import letter
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.scorers.lmms_eval.seedbench import ABILITIES
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.question import LETTER_PROMPT, lettered, question_row


def about_a_picture(record: Record) -> bool:
    """Whether the question is about a picture, not a video."""
    return bool(record["data_type"] == "image")


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question with its options, the right letter and the ability it asks for."""
    options = [record[f"choice_{name}"] for name in "abcd"]
    gold = record["answer"].strip().upper()
    prompt = f"{record['question']}\n{lettered(options)}\n{LETTER_PROMPT}"
    ability = int(record["question_type_id"])
    known = 1 <= ability <= len(ABILITIES)
    meta = {
        "options": options,
        "category": ABILITIES[ability - 1] if known else str(ability),
        "data_type": record["data_type"],
    }
    return question_row(str(record["question_id"]), prompt, gold, record["image"], gold, meta)


TASK = Task(
    "seedbench",
    MeasuredSource(
        "seedbench",
        {"test": HubTable("lmms-lab/SEED-Bench", "test")},
        make_row,
        keep=about_a_picture,
        identity=LETTER_PROMPT,
    ),
    letter,
    16,
    lmms_eval=SCORERS["seedbench"],
)
