"""A score outside of its range is no score."""

import math

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score


@pytest.mark.parametrize("value", [100.0, 1.01, -0.1, math.nan])
def test_a_number_that_is_no_share_of_right_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"a score must lie in \[0, 1\], got"):
        Score(value)
    with pytest.raises(UserError, match="for hour"):
        Score(1.0, parts={"hour": value})
