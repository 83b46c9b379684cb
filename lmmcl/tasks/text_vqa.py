"""TextVQA: questions about writing in photographs, ten answers each.

Data: lmms-lab/textvqa (columns as on its card; the answers of its test split are not public, so validation is the
test). Training teaches the most common answer, the first of equals. The evaluation prompt is that of lmms-eval 0.7.3
(``textvqa_val``): the question with a capital letter and the rest in small ones, without OCR tokens. A picture has
several questions, which stay on one side of the cut that makes dev.
"""

from collections import Counter

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import vqa_accuracy
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.question import PHRASE_PROMPT, question_row

DATASET = "lmms-lab/textvqa"


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question, its most common answer and all ten."""
    answers = list(record["answers"])
    answer = Counter(answers).most_common(1)[0][0]
    question = record["question"]
    prompt = question if part == "train" else f"{question.capitalize()}\n{PHRASE_PROMPT}"
    return question_row(str(record["question_id"]), prompt, answer, record["image"], answers)


TASK = Task(
    "text_vqa",
    HubSource(
        {"train": HubTable(DATASET, "train"), "test": HubTable(DATASET, "validation")},
        make_row,
        group="image_id",
        identity=PHRASE_PROMPT,
    ),
    vqa_accuracy,
    64,
    lmms_eval=SCORERS["text_vqa"],
)
