"""DocVQA: a word or a phrase, any of the accepted answers."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_asks_for_a_word_or_a_phrase(root: Path) -> None:
    row = rows("docvqa", "test", root)[1]
    assert text(row) == "What is the date on page 1?\nAnswer the question using a single word or phrase."
    assert (row.id, row.answer, row.gold) == ("49151", "May 3, 1999", ["May 3, 1999", "3 May 1999"])
    assert row.meta == {"question_types": ["handwritten", "form"]}
