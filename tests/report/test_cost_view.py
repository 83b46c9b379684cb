"""What a run cost, in the units of a reader."""

from lmmcl.cost import StageCost
from lmmcl.report.cost_view import cost_line, cost_rows, cost_words

COSTS = [
    StageCost(0, "00-base", "evaluate", 30.0, 100, 5000, 10**12, 2**30),
    StageCost(1, "01-a", "train", 3700.0, 20, 1200, 5 * 10**14, 3 * 2**30),
    StageCost(1, "01-a", "evaluate", 31.0, 100, 5100, 10**12, 2**30),
]


def test_the_cost_is_one_line_in_the_terminal() -> None:
    assert cost_line(COSTS) == (
        "cost: training 1:01:40, 20 samples, 1,200 tokens; measuring 1:01, 200 answers, 10,100 tokens; "
        "502 teraFLOP; at most 3.0 GiB a process"
    )
    assert cost_line([]) == ""


def test_the_table_of_a_page_ends_with_the_total_and_the_largest_memory() -> None:
    rows = cost_rows(COSTS)
    assert [row[:2] for row in rows] == [
        ("00-base", "measuring"),
        ("01-a", "training"),
        ("01-a", "measuring"),
        ("total", ""),
    ]
    assert rows[-1][3:] == ("220", "11,300", "502 TFLOP", "3.2 GB")
    assert cost_rows([]) == []


def test_the_words_of_a_page_are_the_total() -> None:
    assert cost_words(COSTS) == f"{cost_rows(COSTS)[-1][2]}, 220 samples, 502 TFLOP, at most 3.2 GB"
    assert cost_words([]) == ""
