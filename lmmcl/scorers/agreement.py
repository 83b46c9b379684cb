"""How many annotators agree with an answer: the accuracy of VQA with ten answers a question."""

import statistics
from collections.abc import Sequence


def agreement(answer: str, annotations: Sequence[str]) -> float:
    """VQA accuracy: over all ways to leave one annotation out, the mean of min(1, equal others / 3).

    Args:
        answer: in the normal form that the annotations are in.
        annotations: one per annotator (ten in VQA and TextVQA); equal ones count as often as they were given.

    Returns:
        From 0 to 1; 0 without annotations.

    Source: VQA (arXiv 1505.00468) and its evaluation code.
    """
    equal = [annotation == answer for annotation in annotations]
    if not equal:
        return 0.0
    return float(statistics.mean(min(1.0, float(sum(equal) - left_out) / 3) for left_out in equal))
