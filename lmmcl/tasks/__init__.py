"""The study's tasks by name: five targets, eight held-out ones, and four more that are only measured.

Every file says its data, split, prompt, answer, longest generation and scorers, and where these facts come from. The
prompts of the held-out tasks are those of lmms-eval 0.7.3, so that scores can be laid beside published ones (it names
the data sets of lmms-lab by that organisation's newer name, lmms-lab-encoder). Pictures are addressed by their data set
and their place or content in it, never by a file's bare name.
"""

from collections.abc import Mapping

from lmmcl.data.task import Task
from lmmcl.tasks import (
    ai2d,
    chartqa,
    coco_clock,
    countbench,
    cub200,
    docvqa,
    infovqa,
    mmstar,
    ocrbench,
    openimg_clock,
    path_vqa,
    pixmo_count,
    realworldqa,
    scienceqa,
    seedbench,
    text_vqa,
    time_clock,
)

TARGETS = ("cub200", "pixmo_count", "path_vqa", "text_vqa", "time_clock")
HELD_OUT = ("ai2d", "chartqa", "docvqa", "infovqa", "realworldqa", "scienceqa", "mmstar", "seedbench")
OTHERS = ("countbench", "coco_clock", "openimg_clock", "ocrbench")

_ALL = (
    *(cub200, pixmo_count, path_vqa, text_vqa, time_clock),
    *(ai2d, chartqa, docvqa, infovqa, realworldqa, scienceqa, mmstar, seedbench),
    *(countbench, coco_clock, openimg_clock, ocrbench),
)
TASKS: Mapping[str, Task] = {file.TASK.name: file.TASK for file in _ALL}

__all__ = ["HELD_OUT", "OTHERS", "TARGETS", "TASKS"]
