"""Files a score under its category, so that the means of a task's categories can be laid side by side."""

from collections.abc import Mapping
from typing import Any


def by_category(value: float, meta: Mapping[str, Any]) -> dict[str, float]:
    """The score as the one part that its category names; no part when ``meta`` has no ``category``.

    A part's mean is over the examples that have it: the mean of each category. The mean of the parts equals the task's
    score where all categories are equally large.
    """
    category = meta.get("category")
    return {} if category is None else {str(category): value}
