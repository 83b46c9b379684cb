"""Scores as lmms-eval gives them, so that a user's numbers can be laid beside published ones.

The reference is lmms-eval 0.7.3. Every function gives the number that its task gives for the same prediction: the
task's filter, the stripping that every task does, and the task's own scorer or metric, with their faults ("It's B" is
not read as B by most of them). A missing prediction (None) is an empty one, as there. Where the original would end in
an exception, the score is 0 and unreadable; the functions say where.

Two things happen before a score and are no part of it. Where a generation is cut (``until``) is the model's matter in
lmms-eval too. Blocks such as ``<think>...</think>`` are removed by its command line (``--reasoning_tags``), after the
filter, and not by its Python interface; these functions leave them.

For cub200, pixmo_count, countbench, path_vqa and the clocks the rules are those of "How To Teach Large Multimodal
Models New Skills" (arXiv 2510.08564): lmms-eval has no such tasks, or has them with other prompts and rules (its
countbench wants the number alone, its pixmo_count reads no number words).

``parsed`` is ours, lmms-eval has no such thing: whether the original's reader found what it looks for.
"""

from collections.abc import Mapping

from lmmcl.scorers.lmms_eval.ai2d import ai2d
from lmmcl.scorers.lmms_eval.chartqa import chartqa
from lmmcl.scorers.lmms_eval.clocks import coco_clock, openimg_clock, time_clock
from lmmcl.scorers.lmms_eval.countbench import countbench
from lmmcl.scorers.lmms_eval.cub200 import cub200
from lmmcl.scorers.lmms_eval.documents import docvqa, infovqa
from lmmcl.scorers.lmms_eval.mmstar import mmstar
from lmmcl.scorers.lmms_eval.ocrbench import ocrbench
from lmmcl.scorers.lmms_eval.path_vqa import path_vqa
from lmmcl.scorers.lmms_eval.pixmo_count import pixmo_count
from lmmcl.scorers.lmms_eval.realworldqa import realworldqa
from lmmcl.scorers.lmms_eval.scienceqa import scienceqa
from lmmcl.scorers.lmms_eval.seedbench import seedbench
from lmmcl.scorers.lmms_eval.text_vqa import text_vqa
from lmmcl.scorers.score import Scorer

REFERENCE_VERSION = "0.7.3"

SCORERS: Mapping[str, Scorer] = {
    "ai2d": ai2d,
    "chartqa": chartqa,
    "coco_clock": coco_clock,
    "countbench": countbench,
    "cub200": cub200,
    "docvqa": docvqa,
    "infovqa": infovqa,
    "mmstar": mmstar,
    "ocrbench": ocrbench,
    "openimg_clock": openimg_clock,
    "path_vqa": path_vqa,
    "pixmo_count": pixmo_count,
    "realworldqa": realworldqa,
    "scienceqa": scienceqa,
    "seedbench": seedbench,
    "text_vqa": text_vqa,
    "time_clock": time_clock,
}

__all__ = [
    "REFERENCE_VERSION",
    "SCORERS",
    "ai2d",
    "chartqa",
    "coco_clock",
    "countbench",
    "cub200",
    "docvqa",
    "infovqa",
    "mmstar",
    "ocrbench",
    "openimg_clock",
    "path_vqa",
    "pixmo_count",
    "realworldqa",
    "scienceqa",
    "seedbench",
    "text_vqa",
    "time_clock",
]
