"""How long rows are, cheaply: what groups them into steps of like length."""

from collections.abc import Sequence

from lmmcl.data.batches.template import text_of
from lmmcl.data.row import Row

PICTURE_LENGTH = 2000
"""What a picture weighs in characters; some 576 tokens are usual."""


def row_lengths(rows: Sequence[Row]) -> list[int]:
    """The characters of each row, and a constant per picture."""
    return [
        sum(len(text_of(message)) for message in row.messages) + PICTURE_LENGTH * len(row.images)
        for row in rows
    ]
