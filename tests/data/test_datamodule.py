"""The data module: what YAML may say, steps and windows, and the rows that are measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.data.row_view import RowView
from lmmcl.data.task import Part, Task
from lmmcl.errors import UserError
from lmmcl.scorers import exact_match
from tests.data.processors import CHATML_TOKENS, llava, simple

START: dict[str, int] = {"train": 0, "dev": 1000, "test": 2000}


@dataclass(frozen=True)
class Numbers:
    """Rows whose id is a number and whose category is its remainder by three."""

    count: int = 30

    def split(self, name: Part) -> Sequence[Row]:
        first = START[name]
        return [simple(str(first + i), meta={"category": i % 3}) for i in range(self.count)]

    def fingerprint(self) -> str:
        return f"numbers {self.count}"


def task(name: str = "a", count: int = 30, **options: Any) -> Task:
    return Task(name, Numbers(count), exact_match, **options)


def ids(rows: Sequence[Row]) -> list[str]:
    return [row.id for row in rows]


def serve(
    data: TaskSequenceDataModule, rank: int = 0, world: int = 1, epoch: int = 0, step: int = 0
) -> list[Any]:
    data.attach(llava(special=CHATML_TOKENS), None)
    data.begin(0, data.train_rows(0), epoch, step)
    return list(data.loader(rank, world))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": []}, "data.tasks must list at least one task"),
        ({"tasks": "count"}, "data.tasks must list"),
        ({"tasks": [task(), task()]}, "data.tasks: .*once, got a 2 times"),
        ({"held_out": [task("b"), task("b")]}, "data.held_out: b stands there twice"),
        ({"held_out": [task("a")]}, "data.held_out: a is a target"),
        ({"held_out": "chart"}, r"held_out: \[chart\]"),
        ({"batch_size": 0}, "data.batch_size .* from 1, got 0"),
        ({"micro_batch_size": 0}, "data.micro_batch_size .* from 1, got 0"),
        ({"micro_batch_tokens": 0}, "data.micro_batch_tokens .* from 1, got 0"),
        (
            {"micro_batch_tokens": 9, "micro_batch_size": 8},
            "data.micro_batch_size and .*tokens .* both .* 8 and 9; remove",
        ),
        ({"micro_batch_size": 64}, "data.micro_batch_size .* got 64, and a has 32"),
        ({"tasks": [task(batch_size=4)], "micro_batch_size": 8}, "data.micro_batch_size .* a has 4"),
        ({"seed": -1}, "data.seed"),
        ({"num_workers": -1}, "data.num_workers"),
        ({"max_eval_samples": 0}, "data.max_eval_samples"),
        ({"on_too_long": "cut"}, "data.on_too_long .*'cut'"),
        ({"on_bad_row": "skip"}, "data.on_bad_row .*'skip'"),
        ({"scoring": "lmms"}, "data.scoring .*'lmms'"),
        ({"root": "nowhere"}, "data.root .*nowhere"),
        ({"tasks": [task()], "scoring": "lmms-eval"}, "data.tasks: a has no scorer of lmms-eval"),
        ({"tasks": ["cuont"]}, "data.tasks: there is no task 'cuont'; did you mean 'count'"),
        ({"held_out": ["chrat"]}, "data.held_out: there is no task 'chrat'; did you mean 'chart'"),
    ],
)
def test_a_mistake_in_the_yaml_names_its_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TaskSequenceDataModule(**{"tasks": [task()], **options})


def test_the_command_line_parses_tasks_of_every_form() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TaskSequenceDataModule, "data")
    text = (
        "data: {tasks: [count, {task: clock, lr: 1e-4, epochs: 2}], held_out: [chart], micro_batch_size: 8}"
    )
    data = parser.instantiate(parser.parse_string(text)).data
    assert [(one.name, one.lr, one.epochs) for one in data.tasks] == [("count", None, 1), ("clock", 1e-4, 2)]
    assert [one.name for one in data.held_out] == ["chart"]


def test_the_command_line_leaves_templates_and_column_ways_as_they_are(tmp_path: Path) -> None:
    rows = [{"n": i, "a": {"b": ["x: y", i]}} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TaskSequenceDataModule, "data")
    text = f"""data:
  on_bad_row: drop
  scoring: robust
  tasks:
  - {{task: mine, path: {{train: [{tmp_path}/rows.jsonl], test: {tmp_path}/test.jsonl}},
     prompt: "{{n}}", columns: {{id: null, answer: "a.b[0]"}}, split: {{dev: 0.2}}}}
  held_out:
  - {{task: other, hub: o/n, config: "1.0", revision: "0123", splits: {{test: train}}, prompt: "{{a}}: [b]\\n{{c}}"}}
"""
    (tmp_path / "test.jsonl").write_text(json.dumps({"n": 41, "a": {"b": ["z"]}}))
    data = parser.instantiate(parser.parse_string(text)).data
    row = data.eval_rows(data.tasks[0])[0]
    assert (row.id, row.answer, row.messages[0]["content"][0]["text"]) == ("1", "z", "41")
    source = data.held_out[0].source.source
    assert (source.parts["test"].config, source.parts["test"].revision) == ("1.0", "0123")
    assert source._make.form.prompt.template == "{a}: [b]\n{c}"


def test_a_held_out_file_named_like_a_target_is_called_by_its_file(tmp_path: Path) -> None:
    for name in ("parts", "regression"):
        lines = [json.dumps({"question": f"{name} {i}", "answer": "A"}) for i in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    target = {"task": "mine", "path": str(tmp_path / "parts.jsonl")}
    other = {"task": "mine", "path": str(tmp_path / "regression.jsonl")}
    assert TaskSequenceDataModule([target], [other]).held_out[0].name == "mine-regression"


@pytest.mark.parametrize(("world", "micro"), [(1, None), (2, None), (3, 2), (4, 1)])
def test_a_step_sees_the_same_rows_on_any_number_of_processes(world: int, micro: int | None) -> None:
    data = TaskSequenceDataModule([task()], batch_size=8, micro_batch_size=micro, group_by_length=False)
    one = TaskSequenceDataModule([task()], batch_size=8, group_by_length=False)
    alone = [set(batch.ids) for batch in serve(one)]
    ranks = [serve(data, rank, world) for rank in range(world)]
    per_step = data.steps.forwards(data.tasks[0], world)
    assert all(len(batches) == len(alone) * per_step for batches in ranks)
    for step, expected in enumerate(alone):
        of_step = [b for batches in ranks for b in batches[step * per_step : (step + 1) * per_step]]
        assert all(len(batch) <= (micro or 8) for batch in of_step)
        assert {name for batch in of_step for name in batch.ids} - {""} == expected


def test_rows_are_measured_once_for_all_epochs_unless_a_list_may_have_changed() -> None:
    made: list[int] = []

    def make(place: int) -> Row:
        made.append(place)
        return simple(str(place))

    data = TaskSequenceDataModule([task(epochs=2)], batch_size=8)
    data.attach(llava(special=CHATML_TOKENS), None)
    rows = RowView(range(20), make)
    for epoch in range(2):
        data.begin(0, rows, epoch, 0)
        data.loader(0, 1)
    assert made == list(range(20))
    changing = [simple(str(place)) for place in range(9)]
    for count in (9, 8):
        data.begin(0, changing, 0, 0)
        assert sum(map(len, data.loader(0, 1).data.windows)) == count
        changing.pop()


def test_epochs_differ_and_a_later_start_is_the_rest_of_the_epoch() -> None:
    data = TaskSequenceDataModule([task(epochs=2)], batch_size=8)
    first, second = ([batch.ids for batch in serve(data, epoch=epoch)] for epoch in (0, 1))
    assert first != second
    assert [batch.ids for batch in serve(data, epoch=1, step=2)] == second[2:]


def test_training_rows_are_a_seeded_draw_when_limited() -> None:
    def drawn(seed: int) -> list[str]:
        return ids(TaskSequenceDataModule([task(max_train_samples=10)], seed=seed).train_rows(0))

    assert len(set(drawn(0))) == 10
    assert drawn(0) == drawn(0) != drawn(1)
    assert len(TaskSequenceDataModule([task(max_train_samples=99)]).train_rows(0)) == 30


def test_measured_rows_are_stratified_and_do_not_depend_on_the_seed() -> None:
    data = [TaskSequenceDataModule([task()], seed=seed, max_eval_samples=12) for seed in (0, 1)]
    rows = data[0].eval_rows(data[0].tasks[0])
    assert ids(rows) == ids(data[1].eval_rows(data[1].tasks[0]))
    assert [sum(row.meta["category"] == kind for row in rows) for kind in range(3)] == [4, 4, 4]
    assert len(data[0].eval_rows(data[0].tasks[0], "dev", limit=5)) == 5
    assert not set(ids(rows)) & set(ids(data[0].eval_rows(data[0].tasks[0], "dev")))


@pytest.mark.parametrize("part", ["dev", "test"])
def test_an_empty_part_is_an_error_and_not_a_score_of_nothing(part: Part) -> None:
    data = TaskSequenceDataModule([task(count=0)])
    with pytest.raises(UserError, match=f"a must have rows for {part}"):
        data.eval_rows(data.tasks[0], part)


def test_all_rows_are_measured_when_nothing_limits_them() -> None:
    data = TaskSequenceDataModule([task()])
    assert len(data.eval_rows(data.tasks[0])) == 30


def test_the_fingerprint_is_plain_and_changes_with_what_changes_results() -> None:
    base = TaskSequenceDataModule([task()]).fingerprint()
    assert json.loads(json.dumps(base)) == base
    changed = [
        TaskSequenceDataModule([task()], seed=1),
        TaskSequenceDataModule([task()], batch_size=16),
        TaskSequenceDataModule([task(count=31)]),
        TaskSequenceDataModule([task(lr=1e-3)]),
        TaskSequenceDataModule([task()], [task("b")]),
        TaskSequenceDataModule([task()], on_bad_row="drop"),
        TaskSequenceDataModule([task(lmms_eval=exact_match)], scoring="lmms-eval"),
    ]
    assert all(data.fingerprint() != base for data in changed)
    for same in (
        TaskSequenceDataModule([task()], micro_batch_size=4, num_workers=2, root="."),
        TaskSequenceDataModule([task()], micro_batch_tokens=4096, packing=True),
    ):
        assert same.fingerprint() == base
