"""What a checkpoint of a sequence holds, and how a run gets it back on any strategy and number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lmmcl.agreement import agreed
from lmmcl.errors import UserError
from lmmcl.position import Position
from lmmcl.run import checkpoint as files
from lmmcl.run.checkpoint import BrokenFileError, Checkpoint, verify_file
from lmmcl.run.run_folder import LINEAGE, RunFolder
from lmmcl.run.saver import Saver
from lmmcl.run.stage_tensors import StageTensors
from lmmcl.sequence.callback_states import plain_states, restore_plain_states

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM

BASE = "00-base"
"""The stage whose tensors are the model as it was loaded."""


def save(
    saver: Saver,
    stages: StageTensors,
    trainer: Trainer,
    module: ContinualLMM,
    position: Position,
    sums: Mapping[str, str],
) -> None:
    """Starts to write ``last/<position>``: what trains in any task, the optimizer while a task is trained, callbacks.

    A callback's tensor that equals a stage's (an anchor, a teacher) is saved as a reference to it, so that it adds no
    bytes. Collective.

    Args:
        saver: writes it; `Saver.wait` says when it is whole.
        stages: of the run.
        trainer: whose fit is running.
        module: what is trained.
        position: where the sequence stands.
        sums: checksum of every parameter, as the stage before was written.
    """
    module.present_step.check_finite()
    tensors: dict[str, Tensor] = {
        f"model/{n}": p for n, p in module.parameters_by_name(module.ever_trained()).items()
    }
    if position.phase == "train":
        tensors |= _optimizer_tensors(trainer, module)
    kept = {f"callback/{c.name}/{key}": t for c in module.stage_callbacks for key, t in c.tensors.items()}
    written = stages.look(before=position.stage + (position.phase == "done"))
    parameters = module.parameters_by_name()
    # Zeros have one checksum in any shape and dtype: only what is as the parameter of its name is can be a stage's.
    alike = {key: t for key, t in kept.items() if _is_like(t, parameters.get(key.rsplit("/", 1)[-1]))}
    # From the first process's view of the disk: on a shared file system others may see a stage later.
    references, written = trainer.strategy.broadcast((stages.references(alike), written))
    state = {
        "position": asdict(position),
        "sums": dict(sums),
        "references": references,
        "stages": written,
        **plain_states(module),
    }
    saver.start(
        stages.run.last / position.name,
        tensors | {k: t for k, t in kept.items() if k not in references},
        state,
    )


def _is_like(tensor: Tensor, parameter: Tensor | None) -> bool:
    return parameter is not None and (tensor.shape, tensor.dtype) == (parameter.shape, parameter.dtype)


def newest(run: RunFolder, trainer: Trainer) -> Checkpoint | None:
    """The newest checkpoint that is whole, with the stages it refers to; warns of each that is not.

    Returns:
        None where the run was killed before its first checkpoint was whole: it starts at its beginning.

    Raises:
        UserError: there are checkpoints, and all of them are damaged; or there is none any more.
    """
    found: str | None = None
    with agreed():
        if trainer.is_global_zero:
            found, damaged = _newest_whole(run)
            for line in damaged:
                used = found is not None and line.startswith(f"{found} ")
                why = "nothing that follows needs it, and the run goes on" if used else "not used"
                warnings.warn(f"{why}: {line}", stacklevel=2)
            if found is None and damaged:
                raise UserError(
                    f"--ckpt_path last: no checkpoint in {run.last} is whole ({'; '.join(damaged)}). Put the files "
                    "back from a copy, or start afresh in another folder with --run."
                )
            if found is None and (stages := run.stages()):
                raise UserError(
                    f"--ckpt_path last: {run.last} holds no checkpoint any more, and the run had come to "
                    f"{stages[-1]}: it would begin anew and write over its stages. Put a checkpoint back from a copy, "
                    "or start afresh in another folder with --run."
                )
    found = trainer.strategy.broadcast(found)
    return Checkpoint(type(run.last)(found)) if found else None


def _newest_whole(run: RunFolder) -> tuple[str | None, list[str]]:
    """The newest checkpoint that is whole with all stages before it; else, the newest that needs no stage it lacks.

    Returns:
        its path, or None; and what is damaged, in words.
    """
    said: list[str] = []
    second: str | None = None
    for path in files.saved(run.last):
        checkpoint = Checkpoint(path)
        if not checkpoint.finished:
            continue  # a kill in mid-write: the one before it counts
        try:
            checkpoint.verify()
            state = checkpoint.state
        except BrokenFileError as error:
            said.append(str(error))
            continue
        needed = {BASE, *(reference["stage"] for reference in state["references"].values())}
        lost = _lost(run, state["stages"], needed)
        said += [f"{path} was written after a stage that is lost: {error}" for error in lost.values()]
        if not lost:
            return str(path), said
        if second is None and not needed & lost.keys():
            second = str(path)
    return second, said


def _lost(run: RunFolder, stages: Mapping[str, str], needed: Collection[str]) -> dict[str, str]:
    """Which of some stages are missing or damaged, by name what is wrong; all of those that are needed is read."""
    lost = {}
    for stage, digest in stages.items():
        try:
            lineage, found = run.read_lineage(stage)
            if found != digest:
                raise BrokenFileError(f"{run.stage(stage) / LINEAGE} is not the one that this run wrote")
            for file, entry in lineage["files"].items():
                verify_file(run.stage(stage) / file, entry, read=stage in needed)
        except BrokenFileError as error:
            lost[stage] = str(error)
    return lost


def restore_model(checkpoint: Checkpoint, module: ContinualLMM) -> None:
    """Loads what trains in any task.

    Raises:
        UserError: the checkpoint lacks a tensor that trains, or holds one that does not.
    """
    reader = checkpoint.reader()
    parameters = module.parameters_by_name(module.ever_trained())
    held = {key.removeprefix("model/") for key in reader.keys() if key.startswith("model/")}
    if held != parameters.keys():
        odd = sorted(held ^ parameters.keys())
        raise UserError(f"{checkpoint.path}: {len(odd)} tensors do not fit the recipe, for example {odd[0]}.")
    with agreed():
        for name, parameter in parameters.items():
            reader.read_into(f"model/{name}", parameter)


def _optimizer_tensors(trainer: Trainer, module: ContinualLMM) -> dict[str, Tensor]:
    state = trainer.strategy.optimizers[0].state
    return {
        f"optimizer/{name}/{key}": value
        for name, parameter in module.trained_parameters().items()
        for key, value in state.get(parameter, {}).items()
    }


def restore_optimizer(checkpoint: Checkpoint, trainer: Trainer, module: ContinualLMM, step: int) -> None:
    """Loads the state of the present task's optimizer, ``step`` steps into its schedule."""
    reader = checkpoint.reader()
    optimizer = trainer.strategy.optimizers[0]
    fused = bool(optimizer.param_groups[0].get("fused"))
    keys = [key for key in reader.keys() if key.startswith("optimizer/")]
    parameters = module.trained_parameters()
    for key in sorted(keys):
        _, name, entry = key.split("/")
        parameter = parameters[name]
        if (
            entry in optimizer.state[parameter]
        ):  # LeanAdamW has made its state, in dtypes and places of its own
            reader.read_into(key, optimizer.state[parameter][entry])
            continue
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


def restore_callbacks(checkpoint: Checkpoint, run: RunFolder, module: ContinualLMM) -> None:
    """Loads the state of all callbacks; before the model's, since a reference to stage 0 is the model as loaded.

    Callbacks that shared one copy of a stage's tensor when it was saved share one again; one that had a copy of its
    own, which it may write into, gets its own.
    """
    state, reader = checkpoint.state, checkpoint.reader()
    callbacks = {callback.name: callback for callback in module.stage_callbacks}
    restore_plain_states(state, module)
    for key in sorted(key for key in reader.keys() if key.startswith("callback/")):
        _, owner, entry = key.split("/", 2)
        callbacks[owner].tensors[entry] = _read(reader, key, module)
    stages = sorted({reference["stage"] for reference in state["references"].values()})
    readers = {stage: run.stage_reader(stage) for stage in stages if stage != BASE}
    parameters = module.parameters_by_name()
    shared: dict[str, Tensor] = {}
    for key, reference in state["references"].items():
        stage, name, holder = reference["stage"], reference["key"], reference["holder"]
        if holder not in shared:
            base = parameters[name].detach().clone() if stage == BASE else _read(readers[stage], name, module)
            shared[holder] = base
        _, owner, entry = key.split("/", 2)
        callbacks[owner].tensors[entry] = shared[holder]


def _read(reader: files.PieceReader, key: str, module: ContinualLMM) -> Tensor:
    """A saved tensor; what belongs to a parameter (its name is the last part of the key) is sharded as that is."""
    like = module.parameters_by_name().get(key.rsplit("/", 1)[-1])
    if like is not None and reader.shape(key) == tuple(like.shape):
        value = torch.empty_like(like, requires_grad=False, dtype=reader.dtype(key))
        reader.read_into(key, value)
        return value
    return reader.read(key).to(module.device)
