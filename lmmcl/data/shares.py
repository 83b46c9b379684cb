"""Which part of a source a row falls into: by a hash of its name, so that others may come and go."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from lmmcl.data.task import PARTS
from lmmcl.errors import UserError

TARGET_SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
HELD_OUT_SHARES = {"dev": 0.1, "test": 0.9}


def shares_of(
    parts: Iterable[str], split: Mapping[str, float] | None, held_out: bool
) -> dict[str, dict[str, float]]:
    """For every set of files, which share of it goes to which part.

    Args:
        parts: what there are files for: ``all``, or names of parts.
        split: shares as the YAML states them; None: the usual ones.
        held_out: the rows are only measured.

    Raises:
        UserError: the shares do not add up to 1, or are stated where files decide.
    """
    given: Any = split  # from YAML it may be anything
    parts = list(parts)
    numbers = isinstance(given, Mapping) and all(
        isinstance(share, int | float) and not isinstance(share, bool) for share in given.values()
    )
    if given is not None and not numbers:
        raise UserError(
            f"split: must be shares such as {{train: 0.9, test: 0.1}}, got {given!r}; correct it."
        )
    if "all" in parts:
        cut = dict(given or (HELD_OUT_SHARES if held_out else TARGET_SHARES))
        if not set(cut) <= set(PARTS) or abs(sum(cut.values()) - 1) > 1e-6 or min(cut.values()) < 0:
            raise UserError(
                f"split: must be shares of {', '.join(PARTS)} that add up to 1, got {cut}; correct it."
            )
        return {"all": {part: cut[part] for part in PARTS if part in cut}}
    if given is not None and (set(given) != {"dev"} or "dev" in parts or not 0 < given["dev"] < 1):
        raise UserError(
            f"split: with files per part it may only hold dev's share, between 0 and 1, got {dict(given)}; remove it."
        )
    shares: dict[str, dict[str, float]] = {part: {part: 1.0} for part in parts}
    if "dev" not in parts:
        donor = "train" if "train" in parts else "test"
        dev = (given or {"dev": 0.1})["dev"]
        shares[donor] = {donor: 1 - dev, "dev": dev}
    return shares


def part_of(name: str, shares: Mapping[str, float]) -> str:
    """The part of a row: its name's hash, read as a number from 0 to 1, falls into one share."""
    place = int.from_bytes(sha256(name.encode("utf-8", "surrogateescape")).digest()[:6]) / 2**48
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return [part for part, share in shares.items() if share][-1]
