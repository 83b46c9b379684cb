"""What a run will write, and whether its disk has room for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback, copied_elements
from lmmcl.optim.trained_bytes import PLAIN, TrainedBytes
from lmmcl.run.run_folder import RunFolder
from lmmcl.run.saver import KEPT
from lmmcl.structure.recipe_table import size_text
from lmmcl.structure.widths import Widths

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM


@dataclass(frozen=True)
class Disk:
    """Bytes that a run's tensors take at most; answers, scores and logs are small beside them.

    Args:
        last: the checkpoints of ``last/``, one more than are kept: an old one goes when the new one is whole.
        stages: ``stages/``, each with all that was trained so far.
    """

    last: int
    stages: int

    @property
    def total(self) -> int:
        """Checkpoints and stages."""
        return self.last + self.stages


def disk_of(module: ContinualLMM) -> Disk:
    """What the whole sequence of a module will write, on whatever number of processes."""
    numel = {name: parameter.numel() for name, parameter in module.parameters_by_name().items()}
    trained = [module.trained_by(task) for task in module.data.tasks]
    each = TrainedBytes.of(module.hparams)
    return disk_need(numel, trained, module.stage_callbacks, widths_of(module, trained), each)


def widths_of(module: ContinualLMM, trained: Sequence[Mapping[str, str]]) -> Widths:
    """The sizes of a module's model, which is built; ``trained`` is what each task trains."""
    return Widths.of(module.model.config, module.anatomy, trained, module.bf16)


def disk_need(
    numel: Mapping[str, int],
    trained: Sequence[Mapping[str, str]],
    callbacks: Sequence[StageCallback] = (),
    widths: Widths | None = None,
    each: TrainedBytes = PLAIN,
) -> Disk:
    """What a sequence will write.

    Args:
        numel: elements of every parameter.
        trained: the parameters that each task trains, in order; at least one task.
        callbacks: of the run; each says what it keeps (`StageCallback.copies`, `StageCallback.state_bytes`).
        widths: of the model; None: other states than copies are left out.
        each: bytes of a trained parameter.
    """
    most = max(sum(numel[name] for name in names) for names in trained)
    so_far: set[str] = set()
    stages = 0
    for names in trained:
        so_far |= names.keys()
        stages += each.weight * sum(numel[name] for name in so_far)
    copied = each.weight * copied_elements(callbacks, numel, trained, on_disk=True)
    states = 0 if widths is None else sum(one.state_bytes(widths, on_disk=True) for one in callbacks)
    checkpoint = (
        each.weight * sum(numel[name] for name in so_far) + round(each.saved * most) + copied + states
    )
    return Disk((KEPT + 1) * checkpoint, stages)


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that holds a folder, or will hold it once it is made."""
    path = path.absolute()
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


def check_disk(trainer: Trainer, module: ContinualLMM) -> None:
    """Refuses a run that its disk cannot hold; what the run holds already counts as room. Collective.

    Raises:
        UserError: names the folder, what it needs and what it has.
    """
    need, run = disk_of(module), RunFolder(module.run_path)
    # All processes refuse or none: those left alone would wait for the others.
    room = trainer.strategy.broadcast(free_bytes(run.path) + _held(run) if trainer.is_global_zero else 0)
    if need.total > room:
        raise UserError(
            f"run: the disk of {run.path} must have room for {size_text(need.total)} (checkpoints "
            f"{size_text(need.last)}, stages {size_text(need.stages)}), it has {size_text(room)}. Make room, choose "
            "another folder with --run, or train fewer parameters (model.recipe)."
        )


def _held(run: RunFolder) -> int:
    """Bytes of the checkpoints and stages that a run has written."""
    files = [path for folder in (run.last, run.stage("")) for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)
