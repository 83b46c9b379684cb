"""The picture world's own tests see every row as it is drawn, never one that is kept."""

import pytest

from lmmcl.world.tasks import WorldRows

_DRAW = WorldRows.make


@pytest.fixture(autouse=True)
def drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorldRows, "make", _DRAW)
