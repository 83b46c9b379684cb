"""Clocks of Open Images photographs, asked and scored as `lmmcl.tasks.time_clock` does.

Data: Jessemel/clockreading-openimg (``image``, ``question``, ``answer``; its split train is the test).
"""

from lmmcl.data.hub.source import HubTable
from lmmcl.data.task import Task
from lmmcl.scorers import clock
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.measured import MeasuredSource
from lmmcl.tasks.time_clock import PROMPT, make_row

TASK = Task(
    "openimg_clock",
    MeasuredSource(
        "openimg_clock",
        {"test": HubTable("Jessemel/clockreading-openimg", "train")},
        make_row,
        identity=PROMPT,
    ),
    clock,
    32,
    lmms_eval=SCORERS["openimg_clock"],
)
