"""InfographicVQA: a word or a phrase, any of the accepted answers."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_asks_for_a_word_or_a_phrase(root: Path) -> None:
    row = rows("infovqa", "test", root)[1]
    assert text(row) == "How many people use channel 1?\nAnswer the question using a single word or phrase."
    assert (row.id, row.answer, row.gold) == ("98314", "40%", ["40%", "40 percent"])
    assert row.meta == {"answer_type": ["single span"]}
