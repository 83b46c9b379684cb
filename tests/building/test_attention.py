"""The attention kernel that is taken where the YAML names none."""

from pathlib import Path

import pytest
import torch
from torch import nn
from typing_extensions import override

import lmmcl.building.attention
from lmmcl.building.attention import FLASH, attention_for
from lmmcl.loading import Checkpoint

CUDA = torch.device("cuda")


class Supporting(Checkpoint):
    """Its architecture has flash attention."""

    @override
    def skeleton(self, dtype: torch.dtype, attention: str | None = None) -> nn.Module:
        assert (dtype, attention) == (torch.bfloat16, FLASH)
        return nn.Linear(1, 1)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmmcl.building.attention, "is_flash_attn_2_available", lambda: True)


def test_a_cpu_takes_eager() -> None:
    assert attention_for(torch.device("cpu"), True, Supporting("x")) == "eager"


@pytest.mark.usefixtures("installed")
def test_a_gpu_takes_flash_attention_where_package_precision_and_model_allow_it() -> None:
    assert attention_for(CUDA, True, Supporting("x")) == FLASH
    assert attention_for(CUDA, False, Supporting("x")) is None


def test_without_the_package_transformers_chooses() -> None:
    assert attention_for(CUDA, True, Supporting("x")) is None


@pytest.mark.usefixtures("installed")
def test_a_model_that_transformers_refuses_to_build_with_it_is_left_to_transformers(tiny: Path) -> None:
    """Here nothing can be built with it: the package is not there."""
    assert attention_for(CUDA, True, Checkpoint(str(tiny))) is None
