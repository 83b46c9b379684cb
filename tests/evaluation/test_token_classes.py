"""Classes of tokens on the vocabularies of both kinds of tokenizers."""

import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.token_classes import token_class, token_partition, token_texts
from lmmcl.world.mini import tokenizer

NUMBERS = ["3", "42", "2nd", "3.5", "1,000", ".5", "7.", "seven", "Seven", "TWENTY", "third"]
OTHERS = ["a", "cat", "1.2.3", "sevens", "3a", "x1", "", ".", ",", "the", "№"]


def vocabulary(mark: str, words: list[str]) -> dict[str, int]:
    """Every word with and without the mark of a leading space."""
    return {token: i for i, token in enumerate(form for word in words for form in (word, mark + word))}


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_number_tokens_are_found_with_and_without_the_mark_of_a_space(mark: str) -> None:
    words = vocabulary(mark, NUMBERS + OTHERS)
    assert token_class(words, "numbers") == list(range(2 * len(NUMBERS)))


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_letters_are_capitals_and_yes_and_no_are_of_any_case(mark: str) -> None:
    words = vocabulary(mark, ["A", "Z", "a", "AB", "yes", "No", "not"])
    assert token_class(words, "letters") == [0, 1, 2, 3]
    assert token_class(words, "yes_no") == [8, 9, 10, 11]


def test_a_letter_that_looks_like_the_mark_of_the_other_kind_misleads_nobody() -> None:
    assert token_class({"Ġ": 0, "▁seven": 1, "▁the": 2}, "numbers") == [1]


def test_a_regular_expression_matches_whole_texts() -> None:
    words = vocabulary("Ġ", ["red", "reddish", "blue"])
    assert token_class(words, "red|blue") == [0, 1, 4, 5]


def test_every_logit_is_in_exactly_one_class_of_the_partition() -> None:
    words = vocabulary("▁", [*NUMBERS, *OTHERS, "A", "I", "no", "yes"])
    parts = token_partition(words, len(words) + 3)
    assert list(parts) == ["numbers", "letters", "yes/no", "rest"]
    assert sorted(i for ids in parts.values() for i in ids) == list(range(len(words) + 3))
    assert parts["numbers"] == token_class(words, "numbers") and parts["yes/no"] == token_class(
        words, "yes_no"
    )
    assert token_partition({"a": 0, "7": 9}, 2) == {
        "numbers": [],
        "letters": [],
        "yes/no": [],
        "rest": [0, 1],
    }


def test_byte_level_tokens_are_decoded_and_added_tokens_stand_as_they_are() -> None:
    assert token_texts(["Ġcaf", "Ã©", "Ċ", "<|endâ˜ƒ|>"]) == [" caf", "é", "\n", "<|endâ˜ƒ|>"]
    assert token_texts(["Ġ", "é￼"])[1] == "é￼", "no such character stands for a byte"


def test_byte_tokens_of_sentencepiece_are_their_character() -> None:
    assert token_texts(["<0x37>", "▁a", "<0xE2>"]) == ["7", " a", "<0xE2>"]
    assert token_class({"<0x37>": 5, "▁a": 6}, "numbers") == [5]


def test_the_mini_tokenizer_says_its_numbers() -> None:
    mini = tokenizer()
    said = {str(mini.decode([token])).strip() for token in token_class(mini.get_vocab(), "numbers")}
    assert {"3", "7"} <= said
    assert all(any(c.isdigit() for c in word) or word.isalpha() for word in said)


@pytest.mark.parametrize(("kind", "said"), [("(", "regular expression"), ("zebra", "no token")])
def test_a_class_that_cannot_be_is_refused(kind: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        token_class({"a": 0}, kind)
