"""The plan of a run, shown before it starts: tasks, steps, what trains, memory, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lmmcl.foreseen import foresee
from lmmcl.mitigation import Mitigation, copied_elements
from lmmcl.model import ContinualLMM
from lmmcl.optim.trained_bytes import TrainedBytes, rounding_of
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.run.host_memory import HostMemory
from lmmcl.run.saver import KEPT
from lmmcl.sequence.disk import disk_of, free_bytes, widths_of
from lmmcl.structure.recipe_table import count_text, in_order, short_groups, size_text


@dataclass(frozen=True)
class Memory:
    """Bytes of a run without activations, whole model, on all processes together where it is sharded."""

    weights: int
    state: int
    copies: int
    host: int = 0
    """Moments in the host's memory."""

    @property
    def total(self) -> int:
        """Weights, gradients and optimizer, and what callbacks keep, without what the host holds."""
        return self.weights + self.state + self.copies


def memory_of(module: ContinualLMM, ddp: bool = False) -> Memory:
    """Weights as they are held; gradients and optimizer of the task that trains most; all that callbacks keep.

    Args:
        module: with its model built.
        ddp: count DDP's buckets.

    Returns:
        What is needed at most: some callbacks keep more with every task (`StageCallback.copies`).
    """
    sizes = {name: p.numel() for name, p in module.parameters_by_name().items()}
    weights = sum(p.numel() * p.element_size() for p in module.model.parameters())
    trained = [module.trained_by(task) for task in module.data.tasks]
    most = max(sum(sizes[name] for name in names) for names in trained)
    each = TrainedBytes.of(module.hparams)
    state = each.state + (
        each.gradient if ddp else 0
    )  # under DDP a gradient once more, in the bucket that is reduced
    copied = copied_elements(module.stage_callbacks, sizes, trained)
    widths = widths_of(module, trained)
    states = sum(callback.state_bytes(widths) for callback in module.stage_callbacks)
    return Memory(weights, round(state * most), each.weight * copied + states, round(each.host * most))


def plan(trainer: Trainer, module: ContinualLMM) -> RenderableType:
    """What a run will do; fits 80 columns and reads without colour.

    Args:
        trainer: whose fit is about to start.
        module: with its model built.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    last = ""
    for name, text in _facts(trainer, module):
        facts.add_row(name if name != last else "", text)
        last = name
    return Group(facts, _tasks(module), Text(""))


def _facts(trainer: Trainer, module: ContinualLMM) -> Iterator[tuple[str, str]]:
    total = sum(module.anatomy.numel.values())
    sizes = {name: parameter.numel() for name, parameter in module.parameters_by_name().items()}
    yield (
        "model",
        f"{module.hparams['path']}: {type(module.model).__name__.removeprefix('FSDP')}, {count_text(total)} parameters",
    )
    for name, trained in _recipes(module).items():
        count = sum(sizes[parameter] for parameter in trained)
        groups = in_order(set(trained.values()), module.anatomy)
        share = f"{count_text(count)} parameters, {100 * count / total:.1f} %"
        yield "trains", f"{name}: {short_groups(groups)} ({share})"
    for mitigation in module.mitigations:
        yield "against forgetting", _settings(mitigation)
    memory = memory_of(module, isinstance(trainer.strategy, DDPStrategy))
    sharded = isinstance(trainer.strategy, FSDP2Strategy)
    spread = (
        f" {'over' if sharded else 'on each of'} {trainer.world_size} processes"
        if trainer.world_size > 1
        else ""
    )
    yield (
        "memory",
        f"{size_text(memory.total)}{spread}: weights {size_text(memory.weights)}, gradients and optimizer "
        f"{size_text(memory.state)}"
        f"{f', kept by callbacks {size_text(memory.copies)}' if memory.copies else ''}; activations come on top"
        f"{f'; moments in the host’s memory {size_text(memory.host)}' if memory.host else ''}",
    )
    if rounding := rounding_of(module.hparams):
        merges = "; what merges or averages weights rounds to nearest"
        moved = any(mitigation.moves_weights() for mitigation in module.mitigations)
        yield "trains in", f"bf16, updates rounded by {rounding} rounding{merges if moved else ''}"
    disk = disk_of(module)
    yield (
        "disk",
        f"{size_text(disk.total)}: checkpoints {size_text(disk.last)}, stages {size_text(disk.stages)}; "
        f"{size_text(free_bytes(module.run_path))} free",
    )
    yield "checkpoints", _saving(trainer, memory, disk.last // (KEPT + 1))
    device = module.device.type if trainer.world_size == 1 else f"{trainer.world_size} × {module.device.type}"
    strategy = type(trainer.strategy).__name__.removesuffix("Strategy").replace("SingleDevice", "one process")
    yield "runs on", f"{device}, {trainer.precision}, {strategy}"
    yield "run", f"{module.run_path}{' (goes on)' if module.hparams['resume'] else ''}"


def _saving(trainer: Trainer, memory: Memory, size: int) -> str:
    """How checkpoints are written, by the host memory that is free now and what the run is still to take of it."""
    strategy = trainer.strategy
    on_host = memory.host + (memory.state + memory.copies if strategy.root_device.type == "cpu" else 0)
    coming = on_host * (1 if isinstance(strategy, FSDP2Strategy) else trainer.world_size)
    if HostMemory(trainer.num_nodes).holds(size + coming, size):
        return f"are copied into host memory, {size_text(size)} in all, and written while training goes on"
    return (
        f"are written while training stands still, {size_text(size)} each: host memory has no room for a copy "
        "(model.checkpoint_every_n_steps says how often)"
    )


def _recipes(module: ContinualLMM) -> dict[str, dict[str, str]]:
    """What each recipe of the run trains, by the recipe's name."""
    return {module.recipe_of(task).name: module.trained_by(task) for task in module.data.tasks}


def _settings(mitigation: Mitigation) -> str:
    given: Mapping[str, Any] = {
        name: value
        for name, value in vars(mitigation).items()
        if not name.startswith("_") and name != "name" and isinstance(value, bool | int | float | str)
    }
    inner = ", ".join(f"{name} {value}" for name, value in given.items())
    return f"{mitigation.name} ({inner})" if inner else mitigation.name


def _tasks(module: ContinualLMM) -> Table:
    data = module.data
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=24)
    for head in ("rows", "steps", "epochs", "lr"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("recipe", overflow="fold")
    table.add_column("measured on", justify="right", no_wrap=True)
    for index, task in enumerate(data.tasks):
        ahead = foresee(data, index, module.mitigations)
        joining = f" +{ahead.joining}/step" if ahead.joining else ""
        table.add_row(
            str(index + 1),
            task.name,
            f"{len(ahead.rows)}{joining}",
            str(ahead.steps),
            str(task.epochs),
            f"{task.lr or module.hparams['lr']:g}",
            module.recipe_of(task).name,
            str(len(data.eval_rows(task))),
        )
    table.add_section()
    for task in data.held_out:
        table.add_row(
            "", task.name, "", "", "", "", Text("held out", style="dim"), str(len(data.eval_rows(task)))
        )
    return table
