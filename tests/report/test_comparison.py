"""The comparison shows every seed and the mean of each way to train."""

import numpy as np
import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.summary import Summary, summarise
from lmmcl.report.comparison import comparison
from tests.report.fake_run import fake_run, result


def seeds(recipe: str) -> list[Summary]:
    found = [fake_run(recipe, n=60, seed=seed)[1] for seed in range(3)]
    return [summary for summary in found if summary is not None]


def test_the_mean_of_the_seeds_is_written_beside_each_run() -> None:
    runs = {"sa_proj": seeds("sa_proj"), "full": seeds("full")}
    texts = [text.get_text() for text in comparison(runs).texts]
    for name, several in runs.items():
        learned = np.mean([seed["target_learning"].value for seed in several])
        assert name in texts
        assert any(text.startswith(f"learned +{learned:.1f}") for text in texts)


def test_every_seed_is_a_point() -> None:
    panel = comparison({"full": seeds("full")}).axes[0]
    points = [line for line in panel.lines if line.get_marker() == "o" and line.get_markersize() < 10]
    assert len(points) == 3


def test_no_run_or_one_without_held_out_tasks_is_refused() -> None:
    with pytest.raises(UserError, match="at least one finished run"):
        comparison({})
    stages = [{"a": result("a", score, 0, 20, 0)} for score in (10, 90)]
    with pytest.raises(UserError, match="run alone measured no held-out task"):
        comparison({"alone": [summarise(stages, ["a"], [], resamples=10)]})
