"""JSON that people read and that has one form: for files of runs, merges and exports."""

from __future__ import annotations

import json
from typing import Any


def as_json(value: Any) -> bytes:
    """Deterministic, readable JSON."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
