"""PathVQA: questions about pictures of pathology, half of them to be answered by yes or no.

Data: flaviagiammarino/path-vqa (``image``, ``question``, ``answer``; train, validation, test). Training asks the
question alone; evaluation puts the study's sentences around it, as its public task file has them.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import path_vqa
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.question import question_row

BEFORE = "Look at the medical image and answer the following question: "
AFTER = (
    "\nFor questions that can be answered with a yes or no, just answer yes or no. "
    "Otherwise, provide an answer in the medical domain."
)
DATASET = "flaviagiammarino/path-vqa"


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question and its answer."""
    question, answer = record["question"], record["answer"]
    prompt = question if part == "train" else f"{BEFORE}{question}{AFTER}"
    return question_row(f"{part}-{number}", prompt, answer, record["image"], answer, {"question": question})


TASK = Task(
    "path_vqa",
    HubSource(
        {
            "train": HubTable(DATASET, "train"),
            "dev": HubTable(DATASET, "validation"),
            "test": HubTable(DATASET, "test"),
        },
        make_row,
        identity=[BEFORE, AFTER],
    ),
    path_vqa,
    64,
    lmms_eval=SCORERS["path_vqa"],
)
