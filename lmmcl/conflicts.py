"""Mitigations that cannot work together, refused before anything expensive starts."""

from collections.abc import Sequence
from itertools import combinations

from lightning.pytorch import Callback

from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation


def check_conflicts(callbacks: Sequence[Callback]) -> None:
    """Asks both of every two mitigations whether they can work together, and in the order in which they stand.

    Methods stack: what is merely unusual is not refused. See `Mitigation.conflict`.

    Args:
        callbacks: of a run, in the order listed.

    Raises:
        UserError: names the two entries of the list and the reason.
    """
    mitigations = [callback for callback in callbacks if isinstance(callback, Mitigation)]
    for earlier, later in combinations(mitigations, 2):
        first, second = _entry(earlier), _entry(later)
        if reason := earlier.conflict(later) or later.conflict(earlier):
            raise UserError(f"trainer.callbacks: {first} and {second} cannot work together: {reason}")
        if reason := earlier.must_follow(later) or later.must_precede(earlier):
            raise UserError(f"trainer.callbacks: list {second} before {first}: {reason}")


def _entry(mitigation: Mitigation) -> str:
    """How the list in YAML calls it."""
    kind = type(mitigation).__name__
    return kind if mitigation.name == kind else f"{kind} (name: {mitigation.name})"
