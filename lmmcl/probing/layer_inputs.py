"""What a few samples put into the linear layers of a model: the second moments of their inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.agreement import agreed
from lmmcl.data.row import Row
from lmmcl.data_parallel import share, sum_over_shares
from lmmcl.model import ContinualLMM
from lmmcl.outputs.token_outputs import every_token
from lmmcl.weights import whole

_AT_ONCE = 1 << 29
"""Elements of all matrices that are summed in one pass over the samples: 4 GiB in fp64."""


def linear_layers(module: ContinualLMM, names: Collection[str]) -> dict[str, nn.Linear]:
    """The linear layers whose weights are among the named parameters, by the weight's name.

    Left out is what is more than a linear layer's: the output head, whose inputs are seen at answer tokens alone, and
    a weight that another module uses, too.
    """
    modules = list(module.model.modules())
    users = Counter(id(p) for one in modules for p in one.parameters(recurse=False))
    head = module.model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
    of_weight = {
        id(one.weight): one
        for one in modules
        if isinstance(one, nn.Linear) and one is not head and users[id(one.weight)] == 1
    }
    parameters = module.parameters_by_name(list(names))
    return {name: of_weight[id(p)] for name, p in parameters.items() if id(p) in of_weight}


def input_moments(
    module: ContinualLMM, rows: Sequence[Row], layers: Mapping[str, nn.Linear]
) -> Iterator[tuple[str, Tensor]]:
    """Σ x xᵀ over all inputs x of each layer, at every position of every sample; collective, use it up.

    Inputs of padding and of fillers are left out. Processes deal the samples among themselves. The model is in eval
    mode; it passes over the samples as often as it takes to hold few of the matrices at once.

    Args:
        module: between two optimizer steps.
        rows: the same on every process.
        layers: by any name, see `linear_layers`.

    Yields:
        name and matrix (inputs, inputs) in fp64 (fp32 on a device without), the same on every process; zeros where a
        layer was not used.
    """
    group: dict[str, nn.Linear] = {}
    size = 0
    for name, layer in layers.items():
        if group and size + layer.in_features**2 > _AT_ONCE:
            yield from _pass(module, rows, group).items()
            group, size = {}, 0
        group[name] = layer
        size += layer.in_features**2
    if group:
        yield from _pass(module, rows, group).items()


def _pass(module: ContinualLMM, rows: Sequence[Row], layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    rank, processes = share()
    dtype = torch.float32 if module.device.type == "mps" else torch.float64
    sums = {
        name: torch.zeros(layer.in_features, layer.in_features, dtype=dtype, device=module.device)
        for name, layer in layers.items()
    }
    tokens = torch.zeros(0, dtype=torch.bool, device=module.device)

    def add_to(total: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            inputs = whole(arguments[0]).reshape(-1, total.shape[0])
            if len(inputs) == tokens.numel():
                inputs = inputs[tokens]
            elif filled:
                return  # the filler's picture, in the vision tower
            inputs = inputs.to(dtype)
            total.addmm_(inputs.T, inputs)

        return add

    hooks = [layer.register_forward_pre_hook(add_to(sums[name])) for name, layer in layers.items()]
    try:
        with module.inference(), agreed():
            for row in rows[rank::processes]:
                batch = module.data.collator.train([row]).to(module.device)
                assert batch.labels is not None
                tokens = every_token(batch).flatten()
                filled = len(batch) > 1 or not bool(tokens.any())
                module.token_outputs(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for total in sums.values():
        sum_over_shares(total)
    return sums
