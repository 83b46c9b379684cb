"""Student's t distribution, for intervals over a few runs."""

import math
from functools import cache

_STEPS = 300
_TINY = 1e-300


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (Lentz's method; DLMF 8.17.22)."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _STEPS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b) for x in [0, 1]."""
    if x <= 0.0 or x >= 1.0:
        return min(1.0, max(0.0, x))
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _continued_fraction(x, a, b) / a
    return 1.0 - front * _continued_fraction(1.0 - x, b, a) / b


def two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) with so many degrees of freedom, which need not be whole; infinity gives the normal's."""
    if math.isinf(freedom) or freedom > 1e7:
        return math.erfc(abs(t) / math.sqrt(2.0))
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)


@cache
def quantile(freedom: float, level: float = 0.95) -> float:
    """The t with P(|T| <= t) = level."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > 1.0 - level:
        high *= 2.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if two_sided(middle, freedom) > 1.0 - level else (low, middle)
    return (low + high) / 2.0
