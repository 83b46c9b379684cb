"""The loader: the same windows on any number of processes, fillers, any start, workers."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmmcl.data.bad_row import RowError
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FILLER_ID, Collator, OnTooLong, answer_tokens
from lmmcl.data.batches.loader import TaskLoader, WindowDataset
from lmmcl.data.batches.micro_batches import Layout
from lmmcl.data.batches.order import windows
from lmmcl.data.pictures.picture import PictureFile
from lmmcl.errors import UserError
from tests.data.processors import CHATML_TOKENS, llava, row, say, simple

ROWS = [simple(str(i), "where " * (i % 5), "red " * (i % 3) + "end") for i in range(29)]
PROCESSOR = llava(special=CHATML_TOKENS)
TOKENS = {one.id: answer_tokens(Collator(PROCESSOR, None).train([one])) for one in ROWS}


def loader(
    world: int = 1,
    rank: int = 0,
    accumulate: int = 1,
    start: int = 0,
    on_too_long: OnTooLong = "error",
    **options: Any,
) -> TaskLoader:
    rows = options.pop("rows", ROWS)
    collator = Collator(PROCESSOR, options.pop("max_length", None), on_too_long)
    plan = windows([len(str(one.messages)) for one in rows], 8, 3, 1, 0)
    return TaskLoader(WindowDataset(rows, plan, collator, rank, world, accumulate), start, **options)


def real(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.ids if name != FILLER_ID]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_windows_are_the_same_on_any_number_of_processes(world: int, accumulate: int) -> None:
    plan = loader().data.windows
    ranks = [list(loader(world, rank, accumulate)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(plan) * accumulate}
    assert {len(loader(world, rank, accumulate)) for rank in range(world)} == {len(plan) * accumulate}
    for step, window in enumerate(plan):
        of_step = [batches[step * accumulate : (step + 1) * accumulate] for batches in ranks]
        ids = [name for batches in of_step for name in real(batches)]
        assert sorted(ids) == sorted(ROWS[position].id for position in window)
        assert sum(batches[0].window_tokens for batches in of_step) == sum(TOKENS[name] for name in ids)
    assert sorted(name for batches in ranks for name in real(batches)) == sorted(one.id for one in ROWS)


def test_all_micro_batches_of_a_window_carry_its_tokens_on_this_process() -> None:
    batches = list(loader(world=2, rank=1, accumulate=2))
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        assert first.window_tokens == second.window_tokens == answer_tokens(first) + answer_tokens(second)


def test_fillers_stand_in_where_rows_run_out() -> None:
    last = [list(loader(4, rank, 2))[-2:] for rank in range(4)]  # 5 rows for 8 micro-batches
    fillers = [batch for batches in last for batch in batches if batch.ids == (FILLER_ID,)]
    assert len(fillers) == 3
    assert all(answer_tokens(batch) == 0 and "pixel_values" in batch.inputs for batch in fillers)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_starts_at_any_step(workers: int) -> None:
    whole = list(loader(2, 1, 2))
    for step in range(5):
        late = list(loader(2, 1, 2, start=step, num_workers=workers))
        assert [batch.ids for batch in late] == [batch.ids for batch in whole[2 * step :]]
    assert len(loader(2, 1, 2, start=3)) == len(whole)


def test_workers_bring_the_same_batches() -> None:
    for here, there in zip(loader(accumulate=3), loader(accumulate=3, num_workers=2), strict=True):
        assert here.ids == there.ids
        assert here.window_tokens == there.window_tokens
        assert all(torch.equal(here.inputs[key], there.inputs[key]) for key in here.inputs)


def test_two_iterations_are_equal_and_nothing_is_kept_between_them() -> None:
    served = loader()
    iterator = iter(served)
    next(iterator)
    assert [batch.ids for batch in served] == [batch.ids for batch in loader()]
    assert served.state_dict() == {}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_stream_is_left_alone(workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(num_workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_row_arrives_as_it_was_said(workers: int) -> None:
    rows = [*ROWS, row("bad", say("user", "x"), say("assistant", ""))]
    with pytest.raises(UserError) as caught:
        list(loader(rows=rows, num_workers=workers))
    assert str(caught.value).startswith("row 'bad': message 2 is an empty answer")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_arrives_with_its_file_and_row(workers: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    picture = PictureFile(tmp_path / "a.png", "rows.jsonl, row 7")
    rows = [*ROWS, replace(simple("bad"), images=(picture,))]
    with pytest.raises(RowError, match=r"rows\.jsonl, row 7: picture .* cannot be read") as caught:
        list(loader(rows=rows, num_workers=workers))
    assert caught.value.where == "rows.jsonl, row 7"


@pytest.mark.parametrize("world", [1, 2])
def test_rows_too_long_are_dropped_counted_and_said(world: int, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS[:20], simple("long", answer="red " * 200 + "end")]
    dropped = []
    with caplog.at_level(logging.WARNING):
        for rank in range(world):
            served = loader(world, rank, rows=rows, max_length=120, on_too_long="drop")
            assert "long" not in real(list(served))
            dropped += served.dropped
    assert dropped == ["long"]
    assert "left out 1 rows of this process, the first: long" in caplog.text


def by_tokens(world: int, rank: int, packing: bool = False, tokens: int = 60, **options: Any) -> TaskLoader:
    collator = Collator(PROCESSOR, options.pop("max_length", None), options.pop("on_too_long", "error"))
    plan = windows([len(str(one.messages)) for one in ROWS], 8, 3, 1, 0)
    data = WindowDataset(ROWS, plan, collator, rank, world, -(-8 // world), layout=Layout(tokens, packing))
    return TaskLoader(data, **options)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_limit_of_tokens_changes_no_window(world: int, packing: bool) -> None:
    plan = loader().data.windows
    each = -(-8 // world)
    ranks = [list(by_tokens(world, rank, packing)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(plan) * each}
    for step, window in enumerate(plan):
        of_step = [batches[step * each : (step + 1) * each] for batches in ranks]
        ids = [name for batches in of_step for one in batches if not one.idle for name in real([one])]
        assert sorted(ids) == sorted(ROWS[position].id for position in window)
        assert sum(batches[0].window_tokens for batches in of_step) == sum(TOKENS[name] for name in ids)
        for batches in of_step:
            assert len({batch.window_tokens for batch in batches}) == 1
            assert not batches[-1].idle, "the last one synchronises"
            idle = [batch.idle for batch in batches]
            assert idle == sorted(idle, reverse=True), "idle ones come first"
            assert max(batch.mask().numel() for batch in batches) <= 60


def test_all_processes_have_as_many_micro_batches_as_the_one_that_needs_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = [sum(not batch.idle for batch in list(by_tokens(2, rank))[:4]) for rank in range(2)]
    monkeypatch.setattr("lmmcl.data.batches.loader.most", lambda count: max(count, 3))
    for rank in range(2):
        first = list(by_tokens(2, rank))[:4]
        assert sum(not batch.idle for batch in first) == max(3, alone[rank])
        assert sum(batch.ids == (FILLER_ID,) and not batch.idle for batch in first) == max(0, 3 - alone[rank])


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_beyond_the_limit_of_tokens_are_told(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    served = by_tokens(1, 0, tokens=45, num_workers=workers)
    with caplog.at_level(logging.WARNING):
        assert sorted(real([batch for batch in served if not batch.idle])) == sorted(one.id for one in ROWS)
    assert served.beyond
    assert "data.micro_batch_tokens: " in caplog.text and served.beyond[0] in caplog.text


def test_workers_bring_the_same_packed_batches() -> None:
    pairs = zip(by_tokens(1, 0, True), by_tokens(1, 0, True, num_workers=2), strict=True)
    for here, there in pairs:
        assert here.ids == there.ids and here.idle == there.idle
        assert all(torch.equal(here.inputs[key], there.inputs[key]) for key in here.inputs)
        assert (here.segments is None) == (there.segments is None)
