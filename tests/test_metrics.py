"""Scorers as torchmetrics metrics: the same means as a plain loop's, in any number of batches and processes."""

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection

from lmmcl.errors import UserError
from lmmcl.metrics import PARTS, ScorerMetric, metric
from lmmcl.scorers import Score, clock, integer, lmms_eval
from tests.scorers.adversarial import Case, cases

NAMES = [
    "lmms_eval.text_vqa",
    "lmms_eval.time_clock",
    "lmms_eval.chartqa",
    "lmms_eval.path_vqa",
    "lmms_eval.mmstar",
]


def some(name: str, number: int = 60) -> list[Case]:
    return list(cases(name.removeprefix("lmms_eval."), number, seed=2))


def fed(measured: ScorerMetric, batch: list[Case]) -> ScorerMetric:
    measured.update([x.prediction for x in batch], [x.gold for x in batch], [x.meta for x in batch])
    return measured


def by_hand(name: str, examples: list[Case]) -> dict[str, Any]:
    scorer = lmms_eval.SCORERS[name.removeprefix("lmms_eval.")]
    scores = [scorer(x.prediction, x.gold, x.meta) for x in examples]
    parts: dict[str, list[float]] = {}
    for score in scores:
        for part, value in score.parts.items():
            parts.setdefault(part, []).append(value)
    return {
        "score": 100 * sum(score.value for score in scores) / len(scores),
        "unparsed": sum(not score.parsed for score in scores) / len(scores),
        "parts": {part: 100 * sum(values) / len(values) for part, values in parts.items()},
    }


def approx(means: Mapping[str, Any]) -> dict[str, Any]:
    """Parts are kept in billionths."""
    return {name: pytest.approx(value, abs=1e-6) for name, value in means.items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_means_of_a_plain_loop(name: str) -> None:
    examples = some(name)
    assert fed(metric(name), examples).compute() == approx(by_hand(name, examples))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_do_not_matter(name: str, size: int) -> None:
    examples = some(name)
    measured = metric(name)
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        alone = measured([x.prediction for x in batch], [x.gold for x in batch], [x.meta for x in batch])
        assert alone == approx(by_hand(name, batch))
    assert measured.compute() == fed(metric(name), examples).compute()


@pytest.mark.parametrize("name", NAMES)
def test_two_halves_merge_to_the_whole(name: str) -> None:
    examples = some(name)
    first, second = fed(metric(name), examples[:13]), fed(metric(name), examples[13:])
    first.merge_state(second)
    assert first.compute() == fed(metric(name), examples).compute()


@pytest.mark.parametrize("name", NAMES)
def test_processes_of_which_one_saw_nothing_sync_to_the_whole(name: str) -> None:
    examples = some(name)
    others = [fed(metric(name), share) for share in ([], examples[5:])]
    states: Iterator[str] = iter(others[0].metric_state)

    def gather(state: torch.Tensor, group: Any) -> list[torch.Tensor]:
        """What torchmetrics' gather does across processes, state after state."""
        attribute = next(states)
        return [state, *(getattr(other, attribute) for other in others)]

    first = metric(name, dist_sync_fn=gather, distributed_available_fn=lambda: True)
    assert fed(first, examples[:5]).compute() == fed(metric(name), examples).compute()
    assert first.count == 5


def test_reset_forgets_and_nothing_seen_has_no_mean() -> None:
    measured = metric("integer")
    measured.update(["3", "many"], [3, 3])
    assert measured.compute() == {"score": 50.0, "unparsed": 0.5, "parts": {}}
    measured.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        empty = measured.compute()
    assert empty["score"] != empty["score"] and empty["parts"] == {}


def test_ones_own_scorer_names_its_parts() -> None:
    def halves(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
        return Score(0.5, parts={"left": 1.0, "right": 0.0})

    measured = ScorerMetric(halves, parts=["left", "right"])
    measured.update(["x"], [None])
    assert measured.compute() == {"score": 50.0, "unparsed": 0.0, "parts": {"left": 100.0, "right": 0.0}}
    with pytest.raises(UserError, match=r"parts must name every sub-score.*'right'.*parts=\['right'\]"):
        ScorerMetric(halves, parts=["left"]).update(["x"], [None])


def test_it_is_copied_pickled_and_collected_like_any_metric() -> None:
    measured = metric(clock)
    measured.update(["3:05"], ["3:05"])
    again = pickle.loads(pickle.dumps(measured))
    assert again.compute() == measured.clone().compute() == measured.compute()
    both = MetricCollection({"robust": metric("integer"), "published": metric("lmms_eval.pixmo_count")})
    both.update(["fourteen"], [14])
    assert both["robust"].compute()["score"] == 100 and both["published"].compute()["score"] == 0


def test_our_scorers_parts_are_known() -> None:
    for scorer in lmms_eval.SCORERS.values():
        for case in cases(scorer.__name__, 20):  # type: ignore[attr-defined]
            given = scorer(case.prediction, case.gold, case.meta).parts
            assert set(given) <= {*PARTS.get(scorer, ()), "math"}


@pytest.mark.parametrize(("predictions", "golds"), [("B", "B"), (["a", "b"], [1]), ([], [1])])
def test_a_batch_that_is_none_is_named(predictions: Any, golds: Any) -> None:
    with pytest.raises(UserError, match="lists of equal length"):
        metric(integer).update(predictions, golds)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no scorer 'leter'; known are .*letter.*lmms_eval\.chartqa"):
        metric("leter")
