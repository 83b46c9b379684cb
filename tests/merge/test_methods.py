"""Each merge against its oracle: limits, closed forms, and slow references that are written another way."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.merge import pieces as pieces_module
from lmmcl.merge.breadcrumbs import breadcrumbs
from lmmcl.merge.counter import happens
from lmmcl.merge.dare import dare, dropped
from lmmcl.merge.methods import METHODS, method_of, settings_of
from lmmcl.merge.pieces import Merge, Piece, landed
from lmmcl.merge.task_arithmetic import task_arithmetic
from lmmcl.merge.ties import ties
from lmmcl.merge.wise_ft import wise_ft
from tests.merge.two_models import merged


def models(count: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (13, 7)) -> list[Tensor]:
    """A base and tuned models; some values do not move."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator)
    made = [base]
    for _ in range(count):
        change = 0.1 * torch.randn(shape, generator=generator)
        made.append(base + change * (torch.rand(shape, generator=generator) > 0.2))
    return [tensor.to(dtype) for tensor in made]


ALL_OF_ONE: dict[str, Merge] = {
    "task arithmetic": partial(task_arithmetic, weight=1.0),
    "TIES": partial(ties, keep=1.0, weight=1.0),
    "DARE": lambda tensor: dare(tensor, 0.0, 1.0, 0),
    "Breadcrumbs": partial(breadcrumbs, smallest=0.0, largest=0.0, weight=1.0),
    "WiSE-FT": partial(wise_ft, alpha=0.0),
}
NONE: dict[str, Merge] = {
    "task arithmetic": partial(task_arithmetic, weight=0.0),
    "TIES, nothing kept": partial(ties, keep=0.0, weight=1.0),
    "TIES": partial(ties, keep=0.5, weight=0.0),
    "DARE": lambda tensor: dare(tensor, 0.5, 0.0, 0),
    "Breadcrumbs": partial(breadcrumbs, smallest=1.0, largest=0.0, weight=1.0),
    "Breadcrumbs from above": partial(breadcrumbs, smallest=0.0, largest=1.0, weight=1.0),
    "WiSE-FT": partial(wise_ft, alpha=1.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ALL_OF_ONE)
def test_all_of_one_task_vector_is_the_tuned_model_exactly(method: str, dtype: torch.dtype) -> None:
    base, tuned = models(1, dtype)
    base.view(-1)[0], tuned.view(-1)[0] = 1.0, 1e-7  # a sum in fp32 would land beside it
    assert torch.equal(merged(ALL_OF_ONE[method], base, tuned), tuned)


@pytest.mark.parametrize("method", NONE)
def test_nothing_of_a_task_vector_is_the_base_exactly(method: str) -> None:
    base, tuned = models(1)
    assert torch.equal(merged(NONE[method], base, tuned), base)


def test_task_arithmetic_adds_the_changes_of_all() -> None:
    base, one, two = models(2)
    found = merged(partial(task_arithmetic, weight=0.7), base, one, two)
    torch.testing.assert_close(found, base + 0.7 * ((one - base) + (two - base)))


def test_wise_ft_is_the_mean_of_both_sides() -> None:
    base, tuned = models(1)
    found = merged(partial(wise_ft, alpha=0.3), base, tuned)
    torch.testing.assert_close(found, 0.3 * base + 0.7 * tuned)


def slow_ties(base: Tensor, tuned: list[Tensor], keep: float, weight: float) -> Tensor:
    """Value by value, as the paper's three steps read."""
    vectors = []
    for model in tuned:
        change = (model - base).flatten().tolist()
        order = sorted(range(len(change)), key=lambda i: -abs(change[i]))[: round(keep * len(change))]
        vectors.append([change[i] if i in order else 0.0 for i in range(len(change))])
    result = base.flatten().tolist()
    for i in range(len(result)):
        values = [vector[i] for vector in vectors]
        sign = math.copysign(1.0, sum(values)) if sum(values) else 0.0
        agreeing = [value for value in values if value * sign > 0]
        result[i] += weight * sum(agreeing) / len(agreeing) if agreeing else 0.0
    return torch.tensor(result).view(base.shape)


@pytest.mark.parametrize("keep", [0.2, 0.6, 1.0])
def test_ties_is_trim_elect_and_disjoint_mean(keep: float) -> None:
    base, *tuned = models(3)
    found = merged(partial(ties, keep=keep, weight=0.8), base, *tuned)
    torch.testing.assert_close(found, slow_ties(base, tuned, keep, 0.8), rtol=1e-5, atol=1e-6)


def test_ties_of_two_opposite_changes_keeps_neither() -> None:
    base = torch.zeros(4)
    change = torch.tensor([1.0, -2.0, 3.0, 0.5])
    assert torch.equal(merged(partial(ties, keep=1.0, weight=1.0), base, change, -change), base)


def test_breadcrumbs_leaves_out_both_ends_of_each_tensor() -> None:
    base, change = torch.zeros(10), torch.arange(1.0, 11.0) * torch.tensor([1.0, -1.0] * 5)
    found = merged(partial(breadcrumbs, smallest=0.3, largest=0.2, weight=0.5), base, change)
    assert found.tolist() == [0, 0, 0, -2, 2.5, -3, 3.5, -4, 0, 0]


def test_dare_leaves_the_mean_of_a_change_as_it_is() -> None:
    vector, positions = torch.ones(200_000), torch.arange(200_000)
    kept = dropped(vector, positions, 0.9, 0, "weight")
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 10.0]))
    # five standard deviations of a mean of 200,000 such values, 3 / sqrt(200,000) each
    assert float(kept.mean()) == pytest.approx(1.0, abs=5 * 3 / math.sqrt(200_000))


def test_dare_drops_other_values_for_another_seed_tensor_or_model() -> None:
    base, tuned = torch.zeros(64), torch.ones(64)
    draws = [
        merged(lambda t, seed=seed: dare(t, 0.5, 1.0, seed), base, tuned, name=name)  # type: ignore[misc]
        for seed, name in ((0, "a"), (1, "a"), (0, "b"))
    ]
    two = merged(lambda t: dare(t, 0.5, 1.0, 0), base, tuned, tuned, name="a")
    again = merged(lambda t: dare(t, 0.5, 1.0, 0), base, tuned, name="a")
    assert torch.equal(draws[0], again)
    assert len({tuple(draw.tolist()) for draw in draws}) == 3
    assert 2.0 in two.tolist()  # one of the two kept it alone


def test_events_at_neighbouring_positions_are_independent_and_as_frequent_as_asked() -> None:
    found = happens(torch.arange(1_000_000), 0.3, 7, "x").float()
    assert float(found.mean()) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 1e6))
    for lag in (1, 2, 64, 4096):
        together = float((found[lag:] * found[:-lag]).mean())
        assert together == pytest.approx(0.09, abs=5 * math.sqrt(0.09 * 0.91 / 1e6))


@pytest.mark.parametrize("method", METHODS)
def test_pieces_change_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = method_of(method, settings_of(method, {}), 1)
    base, tuned = models(1, torch.bfloat16)
    whole = merged(merge, base, tuned)
    monkeypatch.setattr(pieces_module, "LENGTH", 5)
    assert torch.equal(merged(merge, base, tuned), whole)
    assert (not torch.equal(whole, base) and not torch.equal(whole, tuned)) or method == "task_arithmetic"


HALVES = {
    "TIES": (partial(ties, keep=0.2, weight=1.0), 0.2),
    "Breadcrumbs": (partial(breadcrumbs, smallest=0.7, largest=0.1, weight=1.0), 0.2),
}


@pytest.mark.parametrize("method", HALVES)
@pytest.mark.parametrize("same", [False, True])
def test_a_change_of_few_magnitudes_keeps_the_share_that_was_asked_for(method: str, same: bool) -> None:
    merge, share = HALVES[method]
    generator = torch.Generator().manual_seed(0)
    base = torch.ones(40, 25, dtype=torch.bfloat16)
    step = (
        torch.full_like(base, 2**-7) if same else 2**-7 * torch.randint(1, 4, base.shape, generator=generator)
    )
    tuned = (base + step).bfloat16()
    assert len((tuned - base).unique()) == (1 if same else 3)
    assert int((merged(merge, base, tuned) != base).sum()) == round(share * base.numel())


def test_ties_of_a_model_with_itself_is_that_of_the_model_alone() -> None:
    base = torch.zeros(1000, dtype=torch.bfloat16)
    merge: Merge = partial(ties, keep=0.3, weight=1.0)
    assert torch.equal(merged(merge, base, base + 1, base + 1), merged(merge, base, base + 1))


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("average", {}, "--method must be one of task_arithmetic, ties"),
        ("ties", {"drop": 0.5}, "--drop is no setting of ties, which has --keep, --weight"),
        ("dare", {"drop": 1.0}, r"--drop must lie in \[0, 1\), got 1.0"),
        ("ties", {"keep": 1.5}, r"--keep must lie in \[0, 1\], got 1.5"),
        ("task_arithmetic", {"weight": -1.0}, "--weight must be at least 0, got -1.0"),
        ("breadcrumbs", {"smallest": 0.6, "largest": 0.5}, "their sum must be at most 1"),
    ],
)
def test_a_wrong_setting_is_named(method: str, given: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings_of(method, given)


@pytest.mark.parametrize("shape", [(), (6,), (3, 2)])
def test_a_tensor_of_any_shape_lands_as_its_values_do(shape: tuple[int, ...]) -> None:
    """Half of the change of a value, none of every other: as many as the matrix has rows."""
    base, tuned = torch.full(shape, 1.0), torch.full(shape, 2.0)
    change = torch.where(torch.arange(base.numel()).view(shape) % 2 == 0, 0.5, 0.0)
    merged = landed(Piece(0, base, [tuned]), [tuned - base], change)
    assert torch.equal(merged, base + change)
