"""Multiple choice is scored by what was chosen, not by how it was said."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, letter
from lmmcl.scorers.letter import read_letter

BIRDS = ["house wren", "marsh wren", "wren", "winter wren"]


@pytest.mark.parametrize(
    "said",
    [
        "B", "b", "B.", "(b)", "(B)", "B)", "b.", " B\n", "**B**", "B. foo", "b) foo", "(b) foo",
        "B: foo", "B, foo",
        "It's B", "It’s B", "It's B.", "it's b", "Answer: B", "answer: b", "The answer is B.",
        "The answer is (b)",
        "The correct answer is option B", "I think it is B", "I choose B", "Option B", "A bird; that is B",
        "A is wrong, C too. Answer: B", "[B]", '"B"', "The answer is not C but the option B", "B B",
        "It is not A, it's B", "B\n\nExplanation: A is wrong because of C",
        "B because A and C are wrong",
        "Ｂ",
    ],
)  # fmt: skip
def test_every_way_to_say_b_is_b(said: str) -> None:
    assert letter(said, "B", {}) == Score(1.0)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "...",
        "A or B",
        "A\nB",
        "A, C",
        "A and B",
        "a cat",
        "A cat",
        "I see a cat",
        "It's",
        "maybe",
        "don't know",
        "s't",
    ],
)
def test_what_chooses_nothing_or_several_is_unreadable(said: str) -> None:
    assert letter(said, "B", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    "said",
    [
        "Not B", "NOT B", "not (B)", "It is not option B", "The answer is not B.", "It can't be B", "Neither A nor B",
        "B is wrong", "B is clearly incorrect.", "Option B is wrong", "(B) is not right", "B isn't correct",
        "A and B are wrong",
    ],
)  # fmt: skip
def test_a_denied_letter_is_not_chosen(said: str) -> None:
    assert letter(said, "B", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    "said", ["Not A, B", "B, not A", "A is wrong; it's B", "B. C is not right", "B is not wrong"]
)
def test_beside_a_denied_letter_the_other_is_chosen(said: str) -> None:
    assert letter(said, "B", {}) == Score(1.0)


def test_the_list_of_all_options_chooses_none() -> None:
    assert read_letter("A. cat\nB. dog\nC. cow") is None


def test_the_s_of_a_contraction_is_no_letter() -> None:
    assert letter("It's B", "S", {}) == Score(0.0)


def test_a_letter_beyond_the_options_is_unreadable() -> None:
    assert letter("E", "B", {"options": ["w", "x", "y", "z"]}) == Score(0.0, parsed=False)


def test_an_options_text_stands_for_its_letter() -> None:
    assert read_letter("Marsh Wren.", BIRDS) == "B"
    assert read_letter("I see a marsh wren here", BIRDS) == "B"
    assert read_letter("a wren", BIRDS) == "C"
    assert read_letter("house wren or marsh wren", BIRDS) is None


def test_an_options_own_letters_are_text() -> None:
    assert read_letter("Vitamin C", ["Vitamin A", "Vitamin C"]) == "B"
    assert read_letter("It is vitamin C", ["Vitamin A", "Vitamin C"]) == "B"
    assert read_letter("A cat", ["dog", "cat"]) == "B"


def test_the_letter_wins_over_the_text_of_another_option() -> None:
    assert read_letter("B. house wren", BIRDS) == "B"


def test_options_may_be_a_mapping() -> None:
    assert letter("north", "n", {"options": {"N": "north", "S": "south"}}) == Score(1.0)


def test_a_gap_of_a_table_is_no_option() -> None:
    options = {"A": "cat", "B": "none of them", "C": None}
    assert read_letter("none", options) is None and read_letter("C", options) is None
    assert read_letter("none of them", options) == "B"


def test_options_that_are_one_text_are_named() -> None:
    with pytest.raises(UserError, match="options must be a list of texts"):
        letter("It's d", "D", {"options": "red, green, blue, odd"})


@pytest.mark.parametrize(("gold", "options"), [("BB", None), ("E", ["w", "x"]), ("", None)])
def test_an_impossible_gold_letter_is_named(gold: str, options: list[str] | None) -> None:
    with pytest.raises(UserError, match="scorer letter"):
        letter("B", gold, {"options": options})
