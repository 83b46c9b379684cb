"""What a run writes, foretold to the byte, and a disk too small for it."""

from pathlib import Path
from shutil import disk_usage
from typing import Any, NamedTuple

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from typing_extensions import override

from lmmcl import ContinualLMM
from lmmcl.callbacks import EMA, EWC, L2SP, MAS, SI, LwF
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.run.saver import KEPT
from lmmcl.sequence.disk import check_disk, disk_need, disk_of, free_bytes
from tests.toy import toy_data, toy_module, toy_trainer


def tensor_bytes(folder: Path) -> int:
    """Of all tensors below a folder but the optimizer's scalars, its counts of steps."""
    tensors = [t for path in sorted(folder.rglob("*.safetensors")) for t in load_file(path).values()]
    return sum(t.numel() * t.element_size() for t in tensors if t.dim() > 0)


class Watch(Callback):
    """Weighs the newest checkpoint whenever a step begins."""

    def __init__(self) -> None:
        self.largest = 0

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        pl_module.sequence.saver.wait()
        newest = max(pl_module.sequence.run.last.iterdir())
        self.largest = max(self.largest, tensor_bytes(newest))


def test_checkpoints_and_stages_take_what_was_foretold(tiny: Path, tmp_path: Path) -> None:
    watch, module = Watch(), toy_module(tiny, tmp_path)
    trainer = toy_trainer(callbacks=[watch, LwF()])
    trainer.fit(module, toy_data())
    need = disk_of(module)
    assert need.last == (KEPT + 1) * watch.largest
    assert need.stages == tensor_bytes(tmp_path / "stages")


@pytest.mark.parametrize(
    "mitigation",
    [EWC(batches=1), EWC(gamma=0.5, batches=1), MAS(batches=1), SI(), EMA(measure_before=False), L2SP()],
)
def test_copies_that_no_stage_holds_are_foretold(tiny: Path, tmp_path: Path, mitigation: Mitigation) -> None:
    watch, module = Watch(), toy_module(tiny, tmp_path)
    trainer = toy_trainer(callbacks=[watch, mitigation])
    trainer.fit(module, toy_data())
    need, plain = disk_of(module), disk_need(module.anatomy.numel, trained_by(module))
    assert watch.largest <= need.last / (KEPT + 1)
    assert (need.last == plain.last) == isinstance(mitigation, L2SP)


def trained_by(module: ContinualLMM) -> list[dict[str, str]]:
    return [module.recipe_of(task).resolve(module.anatomy) for task in module.data.tasks]


class Usage(NamedTuple):
    free: int


def test_a_run_that_does_not_fit_is_refused_and_what_it_holds_counts_as_room(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy_module(tiny, tmp_path / "run")
    trainer = toy_trainer()
    trainer.fit(module, toy_data())
    check_disk(trainer, module)
    free = 0
    monkeypatch.setattr("lmmcl.sequence.disk.shutil.disk_usage", lambda path: Usage(free))
    with pytest.raises(UserError, match=r"^run: the disk of .*run must have room for .* MiB \(checkpoints"):
        check_disk(trainer, module)
    free = disk_of(module).last
    check_disk(trainer, module)


def test_a_folder_that_is_still_to_be_made_lies_on_the_disk_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return disk_usage("/")

    monkeypatch.setattr("lmmcl.sequence.disk.shutil.disk_usage", usage)
    monkeypatch.chdir(tmp_path)
    free_bytes(Path("runs/mine"))
    assert asked == [tmp_path]
