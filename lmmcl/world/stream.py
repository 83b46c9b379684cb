"""Random numbers by counter: the same on every machine, every Python and every number of workers."""

from collections.abc import Sequence
from hashlib import blake2b
from struct import unpack
from typing import TypeVar

T = TypeVar("T")


class Stream:
    """A stream of whole numbers that depends on its key alone.

    Block k of the stream is the BLAKE2b hash of the key and k; nothing is carried over from another stream, so the
    sample with index 7 is the same whether or not samples 0 to 6 were drawn. Only integers leave it: floating point
    differs between machines.

    Args:
        key: what the stream is for, for example ``(seed, task, split, index)``.
    """

    def __init__(self, *key: int | str) -> None:
        self._key = repr(key).encode()
        self._block = 0
        self._words: list[int] = []

    def below(self, n: int) -> int:
        """Draws a whole number from 0 to n - 1 (n at most 2**16, so that its bias stays under 2**-16)."""
        if not self._words:
            digest = blake2b(self._key, salt=self._block.to_bytes(8, "little")).digest()
            self._words = list(unpack("<16I", digest))
            self._block += 1
        return (self._words.pop() * n) >> 32

    def between(self, low: int, high: int) -> int:
        """Draws a whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred draws."""
        return self.below(100) < percent

    def pick(self, items: Sequence[T]) -> T:
        """Draws one item."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """Draws k different items, in random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(k)]

    def weighted(self, weights: Sequence[int]) -> int:
        """Draws an index with a chance proportional to its weight."""
        mark = self.below(sum(weights))
        for index, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return index
        raise AssertionError("unreachable: the mark lies below the sum of the weights")
