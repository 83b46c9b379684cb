"""Yes/no questions and terms of pathology, each by its own reader."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, path_vqa


@pytest.mark.parametrize("said", ["yes", "Yes.", "The answer is yes", "Yes, it is"])
def test_every_way_to_say_yes_is_yes(said: str) -> None:
    score = path_vqa(said, "Yes", {})
    assert (score.value, score.parsed, score.parts["yes_no"]) == (1.0, True, 1.0)
    assert path_vqa(said, "no", {}).value == 0.0


def test_a_term_where_yes_or_no_is_asked_is_unreadable() -> None:
    score = path_vqa("liver", "no", {})
    assert score == Score(0.0, parsed=False, parts={"exact_match": 0.0, "token_f1": 0.0, "yes_no": 0.0})


def test_terms_are_compared_in_normal_form_with_the_words_shared_as_a_part() -> None:
    assert path_vqa("The Liver.", "liver", {}) == Score(1.0, parts={"exact_match": 1.0, "token_f1": 1.0})
    said = path_vqa("red liver", "liver", {})
    assert said.value == 0.0 and said.parts == {"exact_match": 0.0, "token_f1": pytest.approx(2 / 3)}
    assert not path_vqa("", "liver", {}).parsed


def test_an_empty_gold_answer_is_named() -> None:
    with pytest.raises(UserError, match="scorer exact_match"):
        path_vqa("x", "", {})
