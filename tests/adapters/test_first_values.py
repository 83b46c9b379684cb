"""First values of adapters are the same wherever a model is built."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmmcl.adapters.first_values import kaiming_uniform_, normal_
from tests.pretended_gpu import pretended_gpu

Fill = Callable[[Tensor], None]
FILLS: dict[str, Fill] = {
    "kaiming": lambda weight: kaiming_uniform_(weight, 3, "layer.lora_A.weight"),
    "normal": lambda weight: normal_(weight, 0.02, 3, "layer.router.weight"),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_a_gpu_gets_the_values_of_the_host(fill: Fill) -> None:
    here = torch.zeros(6, 4)
    fill(here)
    with pretended_gpu():
        there = torch.zeros(6, 4, device="cuda")
        fill(there)
        assert torch.equal(there.cpu(), here)
    assert here.std() > 0.01


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_without_memory_there_are_no_values(fill: Fill) -> None:
    fill(torch.zeros(6, 4, device="meta"))


def test_another_name_or_seed_gives_other_values() -> None:
    drawn = []
    for seed, name in ((0, "a"), (1, "a"), (0, "b")):
        drawn.append(torch.zeros(4, 4))
        kaiming_uniform_(drawn[-1], seed, name)
    assert not any(torch.equal(drawn[0], other) for other in drawn[1:])
