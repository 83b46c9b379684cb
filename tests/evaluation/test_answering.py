"""Rows are dealt in batches of similar length; what answers them is tested with the evaluator."""

from pathlib import Path

from lmmcl.data.row import Row
from lmmcl.evaluation.answering import batches, length


def test_batches_hold_rows_of_similar_length_longest_first() -> None:
    texts = ["x" * (7 * i % 11) for i in range(40)]
    lengths = [
        length(Row(f"r{i}", [{"role": "user", "content": [{"type": "text", "text": text}]}, {}], (), i))
        for i, text in enumerate(texts)
    ]
    dealt = batches(lengths, 7)
    sizes = [len(texts[i]) for batch in dealt for i in batch]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(i for batch in dealt for i in batch) == list(range(40))
    assert [len(batch) for batch in dealt] == [7, 7, 7, 7, 7, 5]


def test_pictures_count_before_words() -> None:
    def row(pictures: int, text: str) -> Row:
        return Row(
            "r",
            [{"role": "user", "content": [{"type": "text", "text": text}]}, {}],
            [Path("p")] * pictures,
            0,
        )

    assert length(row(2, "abc")) == (2, 3)
    assert batches([length(row(0, "a" * 99)), length(row(1, "a")), length(row(1, "aa"))], 2) == [[2, 1], [0]]
