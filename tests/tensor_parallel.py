"""Toy sequences on groups of two processes that cut the decoder among themselves; started by torchrun."""

import logging
import math
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.phi3 import Phi3Config
from transformers.models.qwen3 import Qwen3Config

from lmmcl.data_parallel import DATA, TENSOR, arrange
from lmmcl.merge.threshold import kept_values
from lmmcl.optim.optimizer import adamw, clip_by_norm
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.parallel.tensor_group import average_copies_
from lmmcl.parallel.tensor_parallel import cut
from lmmcl.weights import checksums, holds_first, is_cut, local, whole, write_whole_
from tests.two_processes import fit

_SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 18,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "norms of heads": Qwen3Config(**_SMALL, head_dim=6, attention_bias=True),
    "fused projections": Phi3Config(**_SMALL),
}
"""Models whose plans have the styles that the toy's has not."""


def cut_in_two() -> FSDP2Strategy:
    return FSDP2Strategy(tensor_parallel=2)


def model_of(config: PreTrainedConfig) -> nn.Module:
    """A language model with seeded values; norms and biases, too, differ."""
    generator = torch.Generator().manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() == 1)
    assert isinstance(model, nn.Module)
    return model


def gradients(model: nn.Module, rows: slice) -> Tensor:
    """The loss on some rows of a batch of four, as a share of the mean over the batch; parameters get gradients."""
    words = torch.randint(1, 64, (4, 9), generator=torch.Generator().manual_seed(2))[rows]
    logits = model(input_ids=words, use_cache=False).logits[:, :-1]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten(), reduction="sum") / 32
    loss.backward()
    assert isinstance(loss, Tensor)
    return loss.detach()


def check_model(config: PreTrainedConfig, mesh: DeviceMesh) -> None:
    """A step of a model that is cut and sharded is that of the whole one: loss, gradients, norm, weights, checksums."""
    alone, shared = model_of(config), model_of(config)
    layers = [
        name for name, module in shared.named_modules() if type(module).__name__.endswith("DecoderLayer")
    ]
    assert len(layers) == 2
    cut(shared, mesh[TENSOR])
    for layer in layers:
        fully_shard(shared.get_submodule(layer), mesh=mesh[DATA])
    fully_shard(shared, mesh=mesh[DATA])
    ours, theirs = dict(shared.named_parameters()), dict(alone.named_parameters())
    assert sum(is_cut(parameter) for parameter in ours.values()) >= 8
    assert checksums(ours) == checksums(theirs)
    shares, share = mesh[DATA].size(), mesh.get_local_rank(DATA)
    each = 4 // shares
    loss = gradients(alone, slice(None))
    mine = (
        gradients(shared, slice(share * each, (share + 1) * each)) * shares
    )  # FSDP2 takes the mean over shares
    dist.all_reduce(mine, group=mesh.get_group(DATA))
    torch.testing.assert_close(mine / shares, loss)
    for parameter in ours.values():
        assert parameter.grad is not None
        parameter.grad *= shares
    for name, parameter in ours.items():
        assert parameter.grad is not None
        torch.testing.assert_close(whole(parameter.grad), theirs[name].grad, rtol=1e-4, atol=1e-6, msg=name)
        assert torch.equal(whole(parameter), theirs[name].detach())
    torch.testing.assert_close(clip_by_norm(ours.values(), 0.1), clip_by_norm(theirs.values(), 0.1))
    for parameters in (ours, theirs):
        optimizer = adamw(parameters, dict.fromkeys(parameters, 1e-2), 0.1, (0.9, 0.999))
        for group in optimizer.param_groups:
            group["fused"] = True  # as on a GPU: many shards in one operation
        optimizer.step()
    for name, parameter in ours.items():
        torch.testing.assert_close(whole(parameter), theirs[name].detach(), rtol=0, atol=2e-3, msg=name)
        write_whole_(parameter, theirs[name].detach())
    assert checksums(ours) == checksums(theirs)
    for name, parameter in ours.items():
        check_parts(parameter, theirs[name].detach(), mesh)


def check_parts(shared: Tensor, alone: Tensor, mesh: DeviceMesh) -> None:
    """The largest values are those of the whole tensor; copies are averaged, parts are not."""
    kept = torch.zeros_like(alone)
    part = shared.detach().clone()
    local(part).copy_(kept_values(local(shared.detach()), 0.3, shared))
    write_whole_(kept, whole(part))
    assert torch.equal(kept.bool(), kept_values(alone, 0.3, alone))
    firsts = torch.tensor(float(local(shared).numel() * holds_first(shared)))
    dist.all_reduce(firsts)
    assert firsts == alone.numel()
    drifted = shared.detach() + mesh.get_local_rank(TENSOR)
    average_copies_([drifted])
    moved = local(drifted) - local(shared.detach())
    expected = mesh.get_local_rank(TENSOR) if is_cut(shared) else (mesh[TENSOR].size() - 1) / 2
    torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=0, atol=1e-6)


def check_models() -> None:
    """All of `CONFIGS`, as a strategy with groups of two processes would have them."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    shape = dist.get_world_size() // 2, 2
    assert math.prod(shape) == dist.get_world_size()
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=(DATA, TENSOR))
    arrange(mesh)
    for config in CONFIGS.values():
        check_model(config, mesh)
    arrange(None)


def main(checkpoint: Path, out: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    check_models()
    fit(checkpoint, out / "cut", cut_in_two(), 2, kill_at=5)
    fit(checkpoint, out / "cut", cut_in_two(), 2, resume=True)
    # Begun in one way, ended in others.
    fit(checkpoint, out / "cut-to-fsdp2-to-one", cut_in_two(), 2, kill_at=2)
    fit(checkpoint, out / "cut-to-fsdp2-to-one", "fsdp2", 2, resume=True, kill_at=5)


if __name__ == "__main__":
    # By its importable name, as the other process of a resumed run knows the classes here.
    from tests.tensor_parallel import main as run_all

    with mock.patch("os.fsync"):  # as in conftest.py
        run_all(Path(sys.argv[1]), Path(sys.argv[2]))
