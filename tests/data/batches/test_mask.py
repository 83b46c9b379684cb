"""The rule of the label mask on texts and tokens alone."""

import pytest

from lmmcl.data.batches.mask import align, answer_spans
from lmmcl.errors import UserError

SPECIALS = ["<end>", "<user>"]


def test_a_span_begins_behind_the_prompt_and_ends_with_the_end_of_turn() -> None:
    text, spans = answer_spans("row", "<user>q<a>yes<end>\n", ["<user>q<a>"], ["yes"], SPECIALS, "<eos>")
    assert [text[start:stop] for start, stop in spans] == ["yes<end>"]


def test_the_last_answer_stands_right_behind_its_prompt_and_history_stays_as_it_is_written() -> None:
    text, spans = answer_spans(
        "row",
        "u\nq<end>a \nyes<end>u\nr<end>a \nno<end>",
        ["u\nq<end>a\n", "u\nq<end>a \nyes<end>u\nr<end>a\n"],
        ["yes", "no"],
        SPECIALS,
        None,
    )
    assert text == "u\nq<end>a \nyes<end>u\nr<end>a\nno<end>"
    assert [text[start:stop] for start, stop in spans] == ["yes<end>", "no<end>"]


def test_a_thought_that_the_history_leaves_out_is_left_out() -> None:
    prompts = ["q<end>a<think></think>\n", "q<end>ayes<end>r<end>a<think></think>\n"]
    whole = "q<end>ayes<end>r<end>a<think></think>\nno<end>"
    text, spans = answer_spans("row", whole, prompts, ["yes", "no"], SPECIALS, None)
    assert text == whole
    assert [text[start:stop] for start, stop in spans] == ["yes<end>", "no<end>"]


def test_an_end_of_text_right_behind_the_end_of_turn_is_learned() -> None:
    text, spans = answer_spans("row", "q<a>yes<end><eos>", ["q<a>"], ["yes"], [*SPECIALS, "<eos>"], "<eos>")
    assert [text[start:stop] for start, stop in spans] == ["yes<end><eos>"]


def test_a_line_break_that_the_template_adds_to_its_prompt_is_left_out() -> None:
    text, spans = answer_spans("row", "q<end>a\n\n\nyes<end>", ["q<end>a\n\n"], ["yes"], SPECIALS, None)
    assert text == "q<end>a\n\nyes<end>"
    assert [text[start:stop] for start, stop in spans] == ["yes<end>"]


def test_white_space_of_the_template_around_an_answer_is_learned() -> None:
    text, spans = answer_spans("row", "Q: q A: yes <end>", ["Q: q A:"], ["yes"], SPECIALS, "<eos>")
    assert [text[start:stop] for start, stop in spans] == [" yes <end>"]


def test_a_template_without_an_end_of_turn_gets_the_end_of_text() -> None:
    text, spans = answer_spans("row", "Q: q A: yes ", ["Q: q A:"], ["yes"], SPECIALS, "<eos>")
    assert text == "Q: q A: yes<eos>"
    assert [text[start:stop] for start, stop in spans] == [" yes<eos>"]


def test_an_answer_in_a_question_is_not_mistaken_for_the_answer() -> None:
    _, spans = answer_spans(
        "row", "B<a>B<end>B<a>B<end>", ["B<a>", "B<a>B<end>B<a>"], ["B", "B"], SPECIALS, None
    )
    assert spans == [(4, 10), (14, 20)]


@pytest.mark.parametrize(
    ("text", "prefix", "message"),
    [
        ("<user>q<a>yes<end>", "<user>q<a><think>", "prompted with"),
        ("<user>q<a><think></think>yes<end>", "<user>q<a>", "behind the prompt stands '<think>"),
        ("<user>q<a>yes!!", "<user>q<a>", "must end with an end-of-turn token"),
    ],
)
def test_a_template_that_breaks_the_rule_is_refused(text: str, prefix: str, message: str) -> None:
    with pytest.raises(UserError, match=f"row 7.*{message}"):
        answer_spans("row 7", text, [prefix], ["yes"], SPECIALS, "<eos>")


def test_spans_move_right_by_the_pictures_before_them() -> None:
    plain = [1, 9, 2, 3, 4, 9, 2, 3, 4]
    full = [1, 9, 9, 9, 2, 3, 4, 9, 9, 2, 3, 4]
    assert align(plain, full, [(3, 5), (7, 9)]) == [(5, 7), (10, 12)]


def test_a_span_that_is_not_there_is_not_found() -> None:
    assert align([1, 9, 2, 3], [1, 9, 9, 2, 4], [(3, 4)]) is None
