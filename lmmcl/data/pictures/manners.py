"""How servers are asked for pictures."""

from dataclasses import dataclass

from lmmcl.errors import UserError


@dataclass(frozen=True)
class Manners:
    """How servers are asked.

    Args:
        threads: requests at a time, from 1.
        per_host: requests at a time to one host, from 1.
        timeout: longest silence of a server, in seconds.
        longest: longest time for one picture, in seconds.
        max_bytes: largest picture, from 1.
        attempts: requests for one picture at most, from 1; only what may pass is asked for again.
        pause: seconds before the second attempt, doubled before every further one.
        longest_pause: a server that asks for a longer pause (``Retry-After``), in seconds, is not obeyed but left:
            all its pictures that are not there yet count as failures and are not asked for.
        allow_private: whether addresses of this machine and of private networks may be asked.

    Raises:
        UserError: a value is out of its range.
    """

    threads: int = 16
    per_host: int = 4
    timeout: float = 20.0
    longest: float = 300.0
    max_bytes: int = 100 << 20
    attempts: int = 4
    pause: float = 2.0
    longest_pause: float = 300.0
    allow_private: bool = False

    def __post_init__(self) -> None:
        for key in ("threads", "per_host", "max_bytes", "attempts"):
            if getattr(self, key) < 1:
                raise UserError(f"fetch: {key} must be at least 1, got {getattr(self, key)}.")
        for key in ("timeout", "longest"):
            if not getattr(self, key) > 0:
                raise UserError(f"fetch: {key} must be above 0 seconds, got {getattr(self, key)}.")
