"""Every row is answered and scored exactly once, on any number of processes."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import EvaluationStopped, Kept, evaluate, evaluate_task
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import TaskResult
from lmmcl.scorers import Score, Scorer, integer

SIZES = (1, 2, 3, 7, 8, 9, 40)


@dataclass
class Task:
    name: str
    scorer: Scorer = integer
    max_new_tokens: int = 4
    mean_over: str | None = None


@dataclass
class Echo:
    """A speaker that answers every prompt with its first token, and remembers what it was asked."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    asked: list[int] = field(default_factory=list)
    forwards: int = 0
    opened: int = 0
    training: bool = False
    generation_config: Any = field(default_factory=lambda: SimpleNamespace(
        eos_token_id=9999, pad_token_id=None, bos_token_id=None, decoder_start_token_id=None
    ))  # fmt: skip

    @property
    def model(self) -> "Echo":
        return self

    @property
    def processor(self) -> Any:
        def decode(tokens: torch.Tensor, skip_special_tokens: bool) -> list[str]:
            return [str(int(row[0])) for row in tokens]

        return SimpleNamespace(pad_token_id=0, eos_token_id=9999, batch_decode=decode)

    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        synced_gpus: bool,
        logits_processor: Any,
    ) -> torch.Tensor:
        assert self.opened == 1
        self.forwards += 1
        self.asked += input_ids[:, 0].tolist()
        return torch.cat([input_ids, input_ids[:, :1]], dim=1)

    @contextmanager
    def inference(self) -> Iterator[None]:
        self.opened += 1
        try:
            yield
        finally:
            self.opened -= 1


def rows(n: int) -> list[Row]:
    """Row i says i; every third gold answer is another."""
    return [
        Row(
            f"r{i}",
            [{"role": "user", "content": [{"type": "text", "text": "x" * (7 * i % 11)}]}, {}],
            (),
            i + (i % 3 == 0),
        )
        for i in range(n)
    ]


def prompts(chosen: Sequence[Row]) -> Batch:
    numbers = torch.tensor([[int(row.id[1:]), 1] for row in chosen])
    return Batch(
        {"input_ids": numbers, "attention_mask": torch.ones_like(numbers)}, None, [row.id for row in chosen]
    )


def measure(n: int, **settings: Any) -> tuple[TaskResult, Echo]:
    echo = Echo()
    (result,) = evaluate(echo, [Task("t")], {"t": rows(n)}, prompts, **{"batch_size": 4, **settings})
    return result, echo


@pytest.mark.parametrize("n", SIZES)
def test_every_row_is_scored_once_in_its_order(n: int) -> None:
    result, echo = measure(n)
    assert [example.id for example in result.examples] == [f"r{i}" for i in range(n)]
    assert [example.prediction for example in result.examples] == [str(i) for i in range(n)]
    assert [example.score for example in result.examples] == [float(i % 3 != 0) for i in range(n)]
    assert Counter(echo.asked) == Counter(range(n))
    assert echo.opened == 0


def one_rank(rank: int, folder: Path) -> None:
    """Measures tasks of all sizes twice and leaves what this rank saw in the folder."""
    kept = Kept(PredictionStore(folder / "predictions"), "00-base", {f"t{n}": f"key {n}" for n in SIZES})
    for n in SIZES:
        echo, task = Echo(), Task(f"t{n}")
        (result,) = evaluate(echo, [task], {task.name: rows(n)}, prompts, batch_size=4, kept=kept)
        (folder / f"{n}-{rank}").write_bytes(f"{echo.forwards}\n".encode() + result.to_jsonl())
        (again,) = evaluate(echo, [task], {task.name: rows(n)}, prompts, batch_size=4, kept=kept)
        assert again == result
    done: list[int] = []
    with pytest.raises(EvaluationStopped), (echo := Echo()).inference():
        evaluate_task(
            echo,
            Task("t"),
            rows(40),
            prompts,
            batch_size=4,
            stop=lambda: rank == 1 and len(done) == 1,
            progress=lambda *_: done.append(1),
        )
    assert len(done) == 1
    # Row 5 is broken, or cannot be scored, on one process alone: all of them hear of it.
    with pytest.raises(UserError, match="row r5 is broken"), (echo := Echo()).inference():
        evaluate_task(echo, Task("t"), rows(40), broken, batch_size=4)
    with pytest.raises(UserError, match="r5 has no gold"), (echo := Echo()).inference():
        evaluate_task(echo, Task("t", unscorable), rows(40), prompts, batch_size=4)


def broken(chosen: Sequence[Row]) -> Batch:
    if any(row.id == "r5" for row in chosen):
        raise UserError("row r5 is broken")
    return prompts(chosen)


def unscorable(prediction: str, gold: Any, meta: Any) -> Score:
    if prediction == "5":
        raise UserError("row r5 has no gold answer")
    return Score(1.0)


def rank_main(rank: int, folder: str) -> None:
    for world in (3, 2):
        if rank < world:
            meet = f"file://{folder}/meet{world}"
            dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
            one_rank(rank, Path(folder) / str(world))
            dist.destroy_process_group()


@pytest.mark.slow
def test_any_number_of_processes_gives_the_result_of_one(tmp_path: Path) -> None:
    for world in (2, 3):
        (tmp_path / str(world)).mkdir()
    spawn(rank_main, (str(tmp_path),), 3)
    for world, n in itertools.product((2, 3), SIZES):
        reference = measure(n)[0].to_jsonl()
        kept = (tmp_path / str(world) / "predictions" / "00-base" / f"t{n}.jsonl").read_bytes()
        every = {(tmp_path / str(world) / f"{n}-{rank}").read_bytes() for rank in range(world)}
        forwards = math.ceil(
            math.ceil(n / 4) / world
        )  # the same on every rank: on FSDP2 each one is collective
        assert kept == reference
        assert every == {f"{forwards}\n".encode() + reference}


def test_what_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    kept = Kept(PredictionStore(tmp_path), "00-base", {"t": "key"})
    first, _ = measure(9, kept=kept)
    second, echo = measure(9, kept=kept)
    assert second == first
    assert echo.forwards == 0
    later, echo = measure(9, kept=Kept(kept.store, "01-x", {"t": "key"}))
    assert later == first and echo.forwards == 0
    _, echo = measure(9, kept=Kept(kept.store, "01-x", {"t": "other weights"}))
    assert echo.forwards == 3


def test_what_is_kept_of_other_rows_under_the_same_key_is_measured_again(tmp_path: Path) -> None:
    kept = Kept(PredictionStore(tmp_path), "00-base", {"t": "key"})
    measure(8, kept=kept)
    result, echo = measure(9, kept=kept)
    assert (result.n, echo.forwards > 0) == (9, True)
    assert kept.store.read("00-base", "t") == result


def test_it_stops_between_batches_and_keeps_what_is_done(tmp_path: Path) -> None:
    echo, kept = Echo(), Kept(PredictionStore(tmp_path), "00-base", {"a": "1", "b": "2"})
    tasks, several = [Task("a"), Task("b")], {"a": rows(8), "b": rows(8)}
    with pytest.raises(EvaluationStopped):
        list(
            evaluate(echo, tasks, several, prompts, batch_size=4, kept=kept, stop=lambda: echo.forwards == 3)
        )
    assert (echo.forwards, echo.opened) == (3, 0)
    again = Echo()
    results = list(evaluate(again, tasks, several, prompts, batch_size=4, kept=kept))
    assert [result.task for result in results] == ["a", "b"]
    assert again.forwards == 2


def test_progress_counts_rows() -> None:
    seen: list[tuple[str, int, int]] = []
    measure(9, progress=lambda *step: seen.append(step))
    assert seen == [("t", 4, 9), ("t", 8, 9), ("t", 9, 9)]


def test_an_error_in_a_row_reaches_the_caller() -> None:
    def broken(chosen: Sequence[Row]) -> Batch:
        raise UserError("row r3: its picture is broken")

    with pytest.raises(UserError, match="row r3"):
        list(evaluate(Echo(), [Task("t")], {"t": rows(3)}, broken))


def test_a_batch_of_prompts_that_does_not_fit_names_what_to_lower() -> None:
    def too_many(chosen: Sequence[Row]) -> Batch:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError, match=r"3 prompts at once do not fit into memory .* Lower batch_size"):
        list(evaluate(Echo(), [Task("t")], {"t": rows(3)}, too_many))


def test_a_row_without_the_group_that_the_score_is_a_mean_over_is_named_before_any_is_answered() -> None:
    grouped = [replace(row, meta={"kind": "a"}) for row in rows(3)]
    echo = Echo()
    (result,) = evaluate(echo, [Task("t", mean_over="kind")], {"t": grouped}, prompts)
    assert result.groups == ("a",) * 3
    asked, echo = [*grouped[:2], rows(3)[2]], Echo()
    with pytest.raises(UserError, match=r"t\.mean_over must be a key of every row.*row 'r2' has nothing"):
        list(evaluate(echo, [Task("t", mean_over="kind")], {"t": asked}, prompts))
    assert echo.forwards == 0


def _divides(said: str, gold: Any, meta: Any) -> Score:
    return Score(1 / (int(said) - 1))


def _number(said: str, gold: Any, meta: Any) -> Any:
    return 0.5


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (
            _divides,
            r"t: row 'r1': its scorer raised ZeroDivisionError .* at the answer '1' and the gold answer 1",
        ),
        (_number, r"t: row 'r0': a scorer must return lmmcl\.scorers\.Score, got 0\.5"),
        (
            lambda said, gold, meta: Score(100.0),
            r"t: row 'r0': scorer: a score must lie in \[0, 1\], got 100",
        ),
    ],
)
def test_a_scorer_that_fails_is_named_with_the_row(scorer: Scorer, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(evaluate(Echo(), [Task("t", scorer)], {"t": rows(2 if scorer is _divides else 1)}, prompts))


def test_a_task_without_rows_is_named() -> None:
    with pytest.raises(UserError, match="task t has no rows"):
        list(evaluate(Echo(), [Task("t")], {"t": []}, prompts))
