"""Number words are read as a speller would write them."""

from fractions import Fraction

from lmmcl.scorers.numbers import mentions

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES += " seventeen eighteen nineteen"
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"


def spell(number: int, joiner: str) -> str:
    if number < 20:
        return ONES.split()[number]
    if number < 100:
        return TENS.split()[number // 10] + (joiner + spell(number % 10, joiner) if number % 10 else "")
    for scale, word in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= scale:
            rest = number % scale
            return f"{spell(number // scale, joiner)} {word}" + (f" {spell(rest, joiner)}" if rest else "")
    raise AssertionError


def test_what_is_spelled_is_read() -> None:
    numbers = [*range(1300), 2345, 10_000, 12_345, 100_001, 999_999, 1_000_000, 2_034_567]
    for number in numbers:
        for joiner in (" ", "-"):
            assert mentions(spell(number, joiner)) == [number], spell(number, joiner)


def test_all_mentions_come_in_order() -> None:
    assert mentions("two, 3.5 and 1,200; five six") == [2, Fraction(7, 2), 1200, 5, 6]
    assert mentions("5 minus 2, one and a half") == [5, -2, Fraction(3, 2)]


def test_what_is_no_number_is_passed_over() -> None:
    assert mentions("3.5/03 " + "1" * 5000 + " 1/0") == []


def test_an_ordinal_is_no_count() -> None:
    assert mentions("the twenty-first of one hundred and fifty-second") == []
    assert mentions("twenty-one, three-legged") == [21, 3]


def test_digits_glued_to_letters_are_names() -> None:
    assert mentions("3D B12 2nd v1") == []
