"""Student's t against printed tables, closed forms and the normal distribution."""

import math

import pytest

from lmmcl.evaluation.student_t import incomplete_beta, quantile, two_sided


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (math.inf, 1.9600)],
)
def test_the_quantiles_are_those_of_the_tables(freedom: float, t: float) -> None:
    assert quantile(freedom) == pytest.approx(t, abs=5e-5)


@pytest.mark.parametrize("t", [0.0, 0.1, 1.0, 3.0, 50.0])
def test_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    assert two_sided(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), abs=1e-12)
    assert two_sided(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)


def test_many_degrees_of_freedom_are_the_normal() -> None:
    assert two_sided(1.5, 1e6) == pytest.approx(math.erfc(1.5 / math.sqrt(2)), abs=1e-6)


def test_whole_parameters_are_a_binomial_tail() -> None:
    a, b, x = 3, 5, 0.3
    n = a + b - 1
    tail = sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
    assert incomplete_beta(x, a, b) == pytest.approx(tail, abs=1e-12)
    assert incomplete_beta(x, a, b) == pytest.approx(1 - incomplete_beta(1 - x, b, a), abs=1e-12)
