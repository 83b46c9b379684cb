"""What a checkpoint of a sequence holds, and how a run gets it back on any strategy and number of processes."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lmmcl import checkpoint as files
from lmmcl.checkpoint import BrokenFileError, Checkpoint
from lmmcl.errors import UserError
from lmmcl.run_folder import RunFolder
from lmmcl.weights import checksums

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM

KEPT = 2


def save(
    run: RunFolder,
    trainer: Trainer,
    module: ContinualLMM,
    position: Mapping[str, Any],
    name: str,
    sums: Mapping[str, str],
) -> None:
    """Writes ``last/<name>``: what trains in any task, the optimizer while a task is trained, the callbacks' state.

    A callback's tensor that equals a stage's (an anchor, a teacher) is saved as a reference to it, so that it adds no
    bytes. Collective.
    """
    module.check_finite()
    tensors: dict[str, Tensor] = {f"model/{n}": p for n, p in module.parameters_by_name(module.ever_trained()).items()}
    if position["phase"] == "train":
        tensors |= _optimizer_tensors(trainer, module)
    kept = {f"callback/{c.name}/{key}": t for c in module.stage_callbacks for key, t in c.tensors.items()}
    references = _references(run, kept)
    state = {
        "position": dict(position),
        "sums": dict(sums),
        "references": references,
        "callbacks": {c.name: c.state_dict() for c in module.stage_callbacks},
    }
    files.save(run.last / name, tensors | {k: t for k, t in kept.items() if k not in references}, state)
    if trainer.is_global_zero:
        for old in sorted(run.last.iterdir(), reverse=True)[KEPT:]:
            shutil.rmtree(old)


def newest(run: RunFolder, trainer: Trainer) -> Checkpoint | None:
    """The newest checkpoint that is whole, with the stages it refers to; warns of each that is not."""
    found: str | None = None
    if trainer.is_global_zero:
        whole, broken = files.whole_and_broken(run.last)
        for path in whole:
            try:
                for reference in Checkpoint(path).state["references"].values():
                    run.lineage(reference["stage"])
                found = str(path)
                break
            except BrokenFileError as error:
                broken.append(f"{path} refers to a stage that is not whole: {error}")
        for line in broken:
            warnings.warn(f"not used: {line}", stacklevel=2)
        if found is None and broken:
            raise UserError(
                f"--ckpt_path last: no checkpoint in {run.last} is whole ({'; '.join(broken)}). "
                "Start afresh in another folder with --run."
            )
    found = trainer.strategy.broadcast(found)
    return Checkpoint(type(run.last)(found)) if found else None


def restore(checkpoint: Checkpoint, run: RunFolder, trainer: Trainer, module: ContinualLMM) -> None:
    """Loads a checkpoint into the model, the present optimizer and the callbacks.

    Raises:
        UserError: the checkpoint lacks a tensor that trains, or holds one that does not.
    """
    state, reader = checkpoint.state, checkpoint.reader()
    parameters = module.parameters_by_name(module.ever_trained())
    held = {key.removeprefix("model/") for key in reader.keys() if key.startswith("model/")}
    if held != parameters.keys():
        odd = sorted(held ^ parameters.keys())
        raise UserError(f"{checkpoint.path}: {len(odd)} tensors do not fit the recipe, for example {odd[0]}.")
    # Before the model's: a reference to stage 0 is the model as it was loaded.
    _restore_callbacks(state, reader, run, module)
    for name, parameter in parameters.items():
        reader.read_into(f"model/{name}", parameter)
    if state["position"]["phase"] == "train":
        _restore_optimizer(state["position"]["step"], reader, trainer, module)


def _optimizer_tensors(trainer: Trainer, module: ContinualLMM) -> dict[str, Tensor]:
    state = trainer.strategy.optimizers[0].state
    return {
        f"optimizer/{name}/{key}": value
        for name, parameter in module.trained_parameters().items()
        for key, value in state.get(parameter, {}).items()
    }


def _restore_optimizer(step: int, reader: files.PieceReader, trainer: Trainer, module: ContinualLMM) -> None:
    optimizer = trainer.strategy.optimizers[0]
    fused = bool(optimizer.param_groups[0].get("fused"))
    keys = [key for key in reader.keys() if key.startswith("optimizer/")]
    parameters = module.trained_parameters()
    for key in sorted(keys):
        _, name, entry = key.split("/")
        parameter = parameters[name]
        if reader.shape(key) == tuple(parameter.shape) and parameter.dim() > 0:
            value = torch.empty_like(parameter, requires_grad=False)
            reader.read_into(key, value)
        else:
            value = reader.read(key).to(parameter.device if fused else "cpu")
        optimizer.state[parameter][entry] = value
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        assert isinstance(scheduler, LambdaLR)
        scheduler.last_epoch, scheduler._step_count = step, step + 1
        for group, base, factor in zip(
            optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(step)
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _restore_callbacks(
    state: Mapping[str, Any], reader: files.PieceReader, run: RunFolder, module: ContinualLMM
) -> None:
    callbacks = {c.name: c for c in module.stage_callbacks}
    parameters = dict(module.model.named_parameters())
    for name, plain in state["callbacks"].items():
        callbacks[name].load_state_dict(plain)
    sources: dict[str, tuple[files.PieceReader | None, str]] = {
        key: (reader, key) for key in reader.keys() if key.startswith("callback/")
    }
    for key, reference in state["references"].items():
        if reference["stage"].startswith("00-"):
            sources[key] = (None, reference["key"])
        else:
            sources[key] = (run.stage_reader(reference["stage"]), reference["key"])
    for key, (source, source_key) in sources.items():
        _, owner, entry = key.split("/", 2)
        if source is None:
            callbacks[owner].tensors[entry] = parameters[source_key].detach().clone()
            continue
        # What belongs to a parameter (its name is the last part of the key) is sharded as the parameter is.
        like = parameters.get(entry.rsplit("/", 1)[-1])
        if like is not None and source.shape(source_key) == tuple(like.shape):
            value = torch.empty_like(like, requires_grad=False, dtype=source.dtype(source_key))
            source.read_into(source_key, value)
        else:
            value = source.read(source_key).to(module.device)
        callbacks[owner].tensors[entry] = value


def _references(run: RunFolder, kept: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Callback tensors that a stage holds already, found by checksum."""
    if not kept:
        return {}
    known: dict[str, dict[str, str]] = {}
    for stage in run.stages():
        for name, value in run.checksums(stage).items():
            known.setdefault(value, {"stage": stage, "key": name})
    sums = checksums(kept)
    found = {key: known.get(value) for key, value in sums.items()}
    return {
        key: reference
        for key, reference in found.items()
        if reference is not None and reference["key"] == key.rsplit("/", 1)[-1]
    }
