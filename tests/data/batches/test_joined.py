"""Rows that join every step: equally often, spread over micro-batches, counted apart."""

from collections import Counter

import pytest

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FILLER_ID, Collator, answer_tokens
from lmmcl.data.batches.joined import JOINED, JoinedRows, RowsOfStep, join_windows
from lmmcl.data.batches.loader import TaskLoader, WindowDataset
from lmmcl.data.batches.micro_batches import PADDED, Layout
from lmmcl.errors import UserError
from tests.data.processors import CHATML_TOKENS, llava, simple

OWN = [simple(f"own{i}", "where " * (i % 5), "red " * (i % 3) + "end") for i in range(12)]
OLD = [simple(f"old{i}", "where " * (i % 4), "red " * (i % 2) + "end") for i in range(5)]
SETS = [JoinedRows("taught", OLD, 2), JoinedRows("apart", OLD[:3], 1, taught=False)]
PROCESSOR = llava(special=CHATML_TOKENS)


def test_all_rows_of_a_set_are_met_equally_often_in_another_order_each_turn() -> None:
    one = JoinedRows("set", OLD, 2)
    met = [place for step in range(10) for place in one.of_step(step, 0, 1)]
    turns = [met[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns) and len({str(turn) for turn in turns}) > 1
    assert one.of_step(3, 0, 1) == met[6:8]
    assert [JoinedRows("other", OLD, 2).of_step(step, 0, 1) for step in range(10)] != [
        met[start : start + 2] for start in range(0, 20, 2)
    ]


@pytest.mark.parametrize("per_step", [0, 6])
def test_no_more_rows_join_than_there_are(per_step: int) -> None:
    with pytest.raises(UserError, match="set: rows that join a step must be between 1 and all 5"):
        JoinedRows("set", OLD, per_step)


def test_a_row_knows_its_set_and_bears_its_name() -> None:
    rows = RowsOfStep(OWN, SETS)
    assert len(rows) == 12 + 5 + 3
    assert [(rows[i].id, rows[i].extras[JOINED]) for i in (0, 11, 12, 16, 17)] == [
        ("own0", 0),
        ("own11", 0),
        ("taught/old0", 1),
        ("taught/old4", 1),
        ("apart/old0", 2),
    ]


@pytest.mark.parametrize("grouped", [True, False])
def test_every_window_gets_its_rows_behind_the_steps_before_it(grouped: bool) -> None:
    rows = RowsOfStep(OWN, SETS)
    lengths = [len(str(row.messages)) for row in rows] if grouped else None
    windows = join_windows([[0, 1, 2], [3, 4, 5]], rows, lengths, 7, 0)
    for step, window in enumerate(windows, 7):
        assert sorted(window) == sorted([*range(3 * (step - 7), 3 * (step - 6)), *rows.joined_at(step, 0)])
        if lengths is not None:
            assert [lengths[place] for place in window] == sorted((lengths[p] for p in window), reverse=True)
        else:
            assert {place < 12 for place in window[:2]} == {True, False}


@pytest.mark.parametrize("layout", [PADDED, Layout(packing=True)])
@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 2), (4, 2)])
def test_tokens_are_counted_by_set_on_any_number_of_processes(
    world: int, accumulate: int, layout: Layout
) -> None:
    rows, collator = RowsOfStep(OWN, SETS), Collator(PROCESSOR, None)
    plan = join_windows([list(range(6)), list(range(6, 12))], rows, None, 0, 0)

    def served(rank: int) -> list[Batch]:
        return list(TaskLoader(WindowDataset(rows, plan, collator, rank, world, accumulate, SETS, layout)))

    ranks = [served(rank) for rank in range(world)]
    for step in range(2):
        of_step = [batches[step * accumulate : (step + 1) * accumulate] for batches in ranks]
        flat = [batch for batches in of_step for batch in batches]
        ids = Counter(name for batch in flat for name in batch.ids if name != FILLER_ID)
        assert ids == Counter(rows[place].id for place in plan[step])
        tokens = [sum(answer_tokens(batch, index) for batch in flat) for index in range(3)]
        assert all(tokens) and sum(tokens) == sum(answer_tokens(batch) for batch in flat)
        assert sum(batches[0].window_tokens for batches in of_step) == tokens[0] + tokens[1]
        for index in (1, 2):
            assert sum(batches[0].joined_tokens[index - 1] for batches in of_step) == tokens[index]
