"""Scorers: pure functions of prediction, gold answer and meta data; `Score` is what they return."""

from lmmcl.scorers.clock import clock
from lmmcl.scorers.exact_match import exact_match
from lmmcl.scorers.integer import integer
from lmmcl.scorers.letter import letter
from lmmcl.scorers.score import Score, Scorer
from lmmcl.scorers.token_f1 import token_f1
from lmmcl.scorers.yes_no import yes_no

__all__ = ["Score", "Scorer", "clock", "exact_match", "integer", "letter", "token_f1", "yes_no"]
