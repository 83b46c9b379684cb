"""Which flipped answers the page shows."""

from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.report.flip_view import few


def lost(name: str, cause: str, question: str | None, critical: bool = False) -> FlippedExample:
    return FlippedExample(
        "chart", name, "lost", "yes", "yes", "no", 1.0, 0.0, cause, critical, question=question
    )


def test_an_answer_whose_question_was_not_kept_is_shown_only_where_none_was_or_it_is_critical() -> None:
    bare = [lost("a", "format", None), lost("b", "content", None)]
    told = [lost("c", "content", "How many?"), lost("d", "content", "Which?")]
    critical = lost("e", "format", None, critical=True)
    assert [one.id for one in few([*bare, *told, critical])] == ["e", "c", "d"]
    assert [one.id for one in few(bare)] == ["b", "a"]


def test_causes_take_turns() -> None:
    found = [lost(str(i), "content", "q") for i in range(8)] + [lost("f", "format", "q")]
    assert [one.id for one in few(found)] == ["0", "f", "1", "2", "3", "4"]
