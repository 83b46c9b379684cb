"""What says how features are computed, beside the weights that compute them."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from lmmcl.evaluation.path_state import kernels


class Model(nn.Linear):
    config = SimpleNamespace(_attn_implementation="eager")


@pytest.fixture
def two_processes() -> Iterator[None]:
    """Makes this process one of two whose collectives do nothing."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_a_model_that_is_sharded_under_mixed_precision_casts_otherwise(two_processes: None) -> None:
    mesh = init_device_mesh("cpu", (2,))
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    plain = kernels(Model(4, 4))
    assert kernels(fully_shard(Model(4, 4), mesh=mesh)) == plain
    assert kernels(fully_shard(Model(4, 4), mesh=mesh, mp_policy=bf16)) != plain


def test_deterministic_algorithms_are_other_kernels() -> None:
    plain = kernels(Model(4, 4))
    torch.use_deterministic_algorithms(True)
    try:
        assert kernels(Model(4, 4)) != plain
    finally:
        torch.use_deterministic_algorithms(False)
