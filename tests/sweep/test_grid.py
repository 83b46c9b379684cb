"""The runs of a grid: combinations, names, words."""

from pathlib import Path

import pytest

from lmmcl.errors import UserError
from lmmcl.sweep.grid import Axis, planned


def names(*grid: str) -> list[str]:
    return [run.name for run in planned([Axis.parse(text) for text in grid], ["a.yaml"], [], Path("runs"))]


def test_every_combination_is_a_run_and_the_last_axis_changes_fastest() -> None:
    assert names("model.recipe=full,sa_proj", "seed=0,1") == [
        "recipe=full,seed=0",
        "recipe=full,seed=1",
        "recipe=sa_proj,seed=0",
        "recipe=sa_proj,seed=1",
    ]


def test_the_words_of_a_run_are_those_of_fit() -> None:
    axes = [Axis.parse("config=x/lwf.yaml"), Axis.parse("model.lr=1e-3")]
    (run,) = planned(axes, ["base.yaml"], ["--data.seed", "4"], Path("runs/s"))
    assert run.words == (
        *("--config", "base.yaml", "--config", "x/lwf.yaml", "--data.seed", "4", "--model.lr", "1e-3"),
        *("--run", "runs/s/lwf,lr=1e-3"),
    )
    assert run.folder == Path("runs/s/lwf,lr=1e-3")


def test_commas_inside_brackets_and_quotes_part_nothing() -> None:
    axis = Axis.parse("model.recipe=full,[sa_proj,mlp],{train: [llm.mlp.gate, llm.mlp.up]},'a,b'")
    assert axis.values == ("full", "[sa_proj,mlp]", "{train: [llm.mlp.gate, llm.mlp.up]}", "'a,b'")
    assert axis.label("[sa_proj,mlp]") == "recipe=sa_proj,mlp"


def test_two_axes_of_configs_are_combined() -> None:
    assert names("config=r/full.yaml,r/llm.yaml", "config=o/default.yaml") == ["full,default", "llm,default"]


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (["seed"], "KEY=VALUE"),
        (["seed="], "KEY=VALUE"),
        (["seed=0,,1"], "KEY=VALUE"),
        (["seed=0,0"], "seed has the value 0 twice"),
        (["seed=0", "seed=1"], "seed is given twice"),
        (["run=a,b"], "run is set by the sweep itself"),
        (["config=a/x.yaml,b/x.yaml"], "two runs would be called x"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        names(*grid)
