"""Scorers: pure functions of prediction, gold answer and meta data; `Score` is what they return.

These read what an answer says, in whatever form it says it; `lmmcl.scorers.lmms_eval` gives lmms-eval's scores.
"""

from lmmcl.scorers.anls import anls
from lmmcl.scorers.clock import clock
from lmmcl.scorers.exact_match import exact_match
from lmmcl.scorers.integer import integer
from lmmcl.scorers.letter import letter
from lmmcl.scorers.path_vqa import path_vqa
from lmmcl.scorers.relaxed_accuracy import relaxed_accuracy
from lmmcl.scorers.score import Score, Scorer
from lmmcl.scorers.substring import substring
from lmmcl.scorers.token_f1 import token_f1
from lmmcl.scorers.vqa_accuracy import vqa_accuracy
from lmmcl.scorers.yes_no import yes_no

__all__ = [
    "Score",
    "Scorer",
    "anls",
    "clock",
    "exact_match",
    "integer",
    "letter",
    "path_vqa",
    "relaxed_accuracy",
    "substring",
    "token_f1",
    "vqa_accuracy",
    "yes_no",
]
