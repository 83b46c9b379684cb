"""MMStar: lettered questions of six abilities that cannot be answered without the picture.

Data: Lin-Chen/MMStar, val (columns as on its card; the options are part of the question). The prompt is that of
lmms-eval 0.7.3 (``mmstar``), whose instruction ends without a full stop. The task's score
is lmms-eval's "average": the mean over the 18 fine categories (``l2_category``) of the mean in each.
"""

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import letter
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.options import written_options
from lmmcl.tasks.question import LETTER_PROMPT, question_row

REMOVED = " Please answer yes or no."


def make_row(record: Record, number: int, part: Part) -> Row:
    """The question with its options, the right letter and both categories."""
    question = record["question"].strip().replace(REMOVED, "")
    gold = record["answer"].strip().upper()
    meta = {"category": record["category"], "l2_category": record["l2_category"]}
    options = written_options(question)
    if options is not None and 0 <= ord(gold) - ord("A") < len(options):
        meta["options"] = options
    prompt = f"{question}\n{LETTER_PROMPT.removesuffix('.')}"
    return question_row(str(record["index"]), prompt, gold, record["image"], gold, meta)


TASK = Task(
    "mmstar",
    MeasuredSource("mmstar", {"test": HubTable("Lin-Chen/MMStar", "val")}, make_row, identity=LETTER_PROMPT),
    letter,
    32,
    lmms_eval=SCORERS["mmstar"],
    mean_over="l2_category",
)
