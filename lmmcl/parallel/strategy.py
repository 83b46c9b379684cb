"""Where the model runs: one process, DDP, or FSDP2 with one unit per decoder layer and vision block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from typing_extensions import override

from lmmcl.data_parallel import DATA, TENSOR, arrange
from lmmcl.errors import UserError
from lmmcl.parallel.tensor_group import average_copies_
from lmmcl.parallel.tensor_parallel import cut


class FSDP2Strategy(ModelParallelStrategy):
    """Fully sharded data parallel (FSDP2) over all processes, or over groups that share the decoder's projections.

    Lightning's ``ModelParallelStrategy`` alone would make the GPUs of one node tensor-parallel.

    Args:
        tensor_parallel: processes of a group that take the same rows and cut the projections of the decoder's layers
            among themselves, by transformers' plan; it must divide the number of devices, heads and widths. 1: none.
        kwargs: of Lightning's ``ModelParallelStrategy``, such as ``timeout``.

    Raises:
        UserError: ``tensor_parallel`` is below 1.
    """

    def __init__(self, tensor_parallel: int = 1, **kwargs: Any) -> None:
        if tensor_parallel < 1:
            raise UserError(
                f"trainer.strategy: FSDP2Strategy.tensor_parallel must be at least 1, got {tensor_parallel}."
            )
        super().__init__(data_parallel_size=1, tensor_parallel_size=tensor_parallel, **kwargs)
        self.tensor_parallel = tensor_parallel

    @override
    def setup_environment(self) -> None:
        processes = self.num_nodes * self.num_processes
        if processes % self.tensor_parallel:
            raise UserError(
                "trainer.strategy: FSDP2Strategy.tensor_parallel must divide the number of devices, which is "
                f"{processes}; got {self.tensor_parallel}. Change one of the two."
            )
        self._data_parallel_size = processes // self.tensor_parallel
        super().setup_environment()
        arrange(self.device_mesh if self.tensor_parallel > 1 else None)

    @override
    def post_backward(self, closure_loss: Tensor) -> None:
        """Holds the copies of a tensor-parallel group together before anyone looks at their gradients."""
        super().post_backward(closure_loss)
        if self.tensor_parallel > 1:
            assert self.model is not None
            average_copies_(p.grad for p in self.model.parameters() if p.grad is not None)

    @override
    def teardown(self) -> None:
        arrange(None)
        super().teardown()


StrategyRegistry.register(
    "fsdp2", FSDP2Strategy, description="FSDP2, all devices data-parallel", override=True
)


def check_strategy(strategy: Strategy) -> None:
    """Refuses what cannot run a sequence.

    Raises:
        UserError: names what to use instead.
    """
    if isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("find_unused_parameters"):
        raise UserError(
            "trainer.strategy: ddp with find_unused_parameters hides parameters that never get a gradient; use ddp: "
            "such parameters are found by a dry backward, frozen and listed."
        )
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy)):
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} cannot run a sequence of tasks (FSDP1 refuses clipping by "
            "norm, DeepSpeed leaves the second task without an optimizer). Use ddp, or fsdp2 to shard the model."
        )


def shard(
    model: nn.Module,
    units: Iterable[str],
    strategy: FSDP2Strategy,
    bf16: bool,
    trained: Iterable[nn.Parameter],
) -> FSDPModule:
    """Shards a model in place: one unit per named sub-module, one for the rest (embedding, head, norms, projector).

    Under tensor parallel the projections of the decoder's layers are cut first, over the group, then as all the rest.

    Args:
        model: without values, on the meta device.
        units: paths of decoder layers and vision blocks.
        strategy: gives the device mesh.
        bf16: whether forwards compute in bf16 (gradients are reduced in fp32).
        trained: every parameter that any task of the sequence trains. FSDP2 fixes a unit's gradient dtype when it is
            first gathered, so all of them are trainable at that moment.

    Returns:
        the root; once the model has its values, `settle` it.
    """
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bf16 else None
    options: dict[str, Any] = {"mesh": strategy.device_mesh[DATA]}
    if policy is not None:
        options["mp_policy"] = policy
    wanted = set(trained)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in wanted)
    if strategy.tensor_parallel > 1:
        cut(model, strategy.device_mesh[TENSOR])
    for path in units:
        fully_shard(model.get_submodule(path), **options)
    return fully_shard(model, **options)


def settle(root: FSDPModule) -> None:
    """Ends the sharding of a model that has its values, with the whole trained set and the right root.

    transformers' generate runs the vision tower on its own first, and FSDP2 would take the first module that runs for
    the root.
    """
    root._get_fsdp_state()._lazy_init()


def units_of(model: nn.Module) -> list[FSDPModule]:
    """FSDP2 units of a model; empty where it is not sharded."""
    return [unit for unit in model.modules() if isinstance(unit, FSDPModule)]


def casts_of(model: nn.Module) -> list[str]:
    """To what FSDP2 casts parameters and inputs, beyond autocast; empty where it casts none or shards nothing."""
    policies = [unit._get_fsdp_state()._mp_policy for unit in units_of(model)]
    return sorted({str(policy.param_dtype) for policy in policies if policy.param_dtype is not None})


def reshard(model: nn.Module) -> None:
    """Frees gathered parameters, so that the next forward gathers the present ones; the root would keep the old."""
    for unit in units_of(model):
        unit.reshard()


def take_trainable(model: nn.Module) -> None:
    """Makes FSDP2 see the present trained set: gathering a unit by hand fixes its gradients' dtype by what trains then.

    A unit that was gathered for an evaluation while nothing in it trained would reduce into bf16, and fail.
    """
    for unit in units_of(model):
        unit.unshard()
        unit.reshard()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keeps all parameters of a sharded model gathered; processes may then run different numbers of forwards."""
    units = units_of(model)
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(unit is not units[0], recurse=False)  # the first is the root


def wrap_again(trainer: Trainer) -> None:
    """Makes DDP see the present trained set; it would go on reducing the former one without an error."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        assert strategy.lightning_module is not None
        strategy.model = strategy._setup_model(strategy.lightning_module)
        strategy._register_ddp_hooks()
