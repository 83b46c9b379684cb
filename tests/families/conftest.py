"""One tiny checkpoint of every family, made once and loaded as any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.loading import Checkpoint
from lmmcl.quirks import learns_suffixes
from tests.families import rows
from tests.families.checkpoints import FAMILIES, Family, checkpoint

WITHOUT_TORCHVISION = (
    "needs torchvision: pip install --no-deps --target .venv/torchvision torchvision num2words; "
    "PYTHONPATH=.venv/torchvision python -m pytest -p tests.families.torchvision_operators tests/families"
)


@dataclass(frozen=True)
class Kit:
    """A family's checkpoint on disk, and what is loaded from it."""

    family: Family
    path: Path

    @cached_property
    def processor(self) -> Any:
        return Checkpoint(str(self.path)).processor()

    @cached_property
    def collator(self) -> Collator:
        return Collator(self.processor, None)

    @cached_property
    def model(self) -> Any:
        """In fp32 and in eval mode."""
        return AutoModelForImageTextToText.from_pretrained(self.path, dtype=torch.float32).eval()

    @cached_property
    def shapes(self) -> tuple[Callable[..., Row], ...]:
        """Makers of the rows that the family takes."""
        if learns_suffixes(self.processor):
            return rows.one, rows.several
        return rows.one, rows.several, rows.none, rows.turns


@pytest.fixture(scope="session", autouse=True)
def _no_bars() -> None:
    logging.disable_progress_bar()


@pytest.fixture(scope="session", params=FAMILIES)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Every family in turn."""
    family = FAMILIES[request.param]
    if not family.available:
        pytest.skip(WITHOUT_TORCHVISION)
    return Kit(family, checkpoint(family, tmp_path_factory.mktemp("families") / family.name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """PaliGemma's processor in transformers 5.23 asks NumPy in an old way for an array."""
    ours = Path(__file__).parent
    for item in items:
        if ours in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
            )
