"""What a checkpoint holds and how a run gets it back: damage, state, sharing, and what must not be mixed up."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.run import checkpoint as files
from lmmcl.run.checkpoint import TensorFile
from lmmcl.run.saver import KEPT
from tests.killed_runs import forked
from tests.tiny import tiny_checkpoint
from tests.tiny_run import contents
from tests.toy import toy_data, toy_module, toy_task, toy_trainer
from tests.two_processes import Killed, KillerAtStep


def fit(
    checkpoint: Path,
    run: Path,
    *callbacks: Callback,
    kill_at: int | None = None,
    data: TaskSequenceDataModule | None = None,
    **options: Any,
) -> None:
    trainer = toy_trainer(callbacks=[KillerAtStep(kill_at), *callbacks])
    with nullcontext() if kill_at is None else pytest.raises(Killed):
        trainer.fit(toy_module(checkpoint, run, **options), data or toy_data())


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "stages" / "02-second" / "weights.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(tiny, run)
    return run


def _die_half_way(checkpoint: Path, run: Path, turn: int, in_manifest: bool) -> None:
    """Fits in a process that is killed in the midst of a save, with half of a file written."""
    write, name = (files.write_atomically, "write_atomically") if in_manifest else (TensorFile.write, "write")
    count = 0

    def dying(*arguments: Any) -> Any:
        nonlocal count
        path: Path = arguments[0] if in_manifest else arguments[1]
        count += path.parent.parent.name == "last"
        if count == turn:
            (path.with_name(path.name + ".part") if in_manifest else path).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments)

    setattr(files if in_manifest else TensorFile, name, dying)
    fit(checkpoint, run)


@pytest.mark.parametrize("in_manifest", [False, True])
@pytest.mark.parametrize("turn", [1, 2, 5, 11])
def test_a_kill_inside_any_save_loses_nothing(
    turn: int, in_manifest: bool, tiny: Path, whole: Path, tmp_path: Path
) -> None:
    process = forked().Process(target=_die_half_way, args=(tiny, tmp_path, turn, in_manifest))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    fit(tiny, tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)
    assert len(list((tmp_path / "last").iterdir())) == KEPT


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_when_there_is_room(
    tiny: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, turns = TensorFile.write, 0

    def full(file: TensorFile, path: Path) -> Any:
        nonlocal turns
        turns += 1
        if turns < 7:
            return write(file, path)
        with files.naming_disk_errors(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TensorFile, "write", full)
        with pytest.raises(
            UserError, match=r"could not write .*process-00000.*No space left.*--ckpt_path last"
        ):
            fit(tiny, tmp_path)
    fit(tiny, tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, remove])
@pytest.mark.parametrize("name", ["process-00000.safetensors", "manifest.json"])
def test_of_two_checkpoints_the_damaged_one_is_named_and_the_other_used(
    damage: Callable[[Path], None], name: str, tiny: Path, whole: Path, tmp_path: Path
) -> None:
    fit(tiny, tmp_path, kill_at=5)
    newest = max((tmp_path / "last").iterdir())
    damage(newest / name)
    # Without a manifest it is a save that was not finished, of which nothing need be said.
    silent = name == "manifest.json" and damage is remove
    with nullcontext() if silent else pytest.warns(UserWarning, match=rf"not used: {newest / name} "):
        fit(tiny, tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("damage", [truncate, flip, remove])
@pytest.mark.parametrize("name", ["weights.safetensors", "lineage.json"])
def test_a_stage_that_is_damaged_is_named_and_written_again_from_the_checkpoint_before_it(
    damage: Callable[[Path], None], name: str, tiny: Path, whole: Path, tmp_path: Path
) -> None:
    fit(tiny, tmp_path, kill_at=3)
    assert [path.name for path in sorted((tmp_path / "last").iterdir())] == [
        "00000003-01-3-write",
        "00000003-02-0-train",
    ]
    file = tmp_path / "stages" / "01-first" / name
    if damage is flip and name == "weights.safetensors":
        file.write_bytes(file.read_bytes()[:-1])  # the size alone is looked at where nothing needs the values
    else:
        damage(file)
    with pytest.warns(
        UserWarning, match=rf"not used: .*02-0-train was written after a stage that is lost: {file} "
    ):
        fit(tiny, tmp_path, resume=True)
    assert contents(tmp_path) == contents(whole)


def test_a_stage_that_nothing_needs_any_more_is_named_and_the_run_goes_on(
    tiny: Path, whole: Path, tmp_path: Path
) -> None:
    fit(tiny, tmp_path, kill_at=5)
    shutil.rmtree(tmp_path / "stages" / "01-first")
    with pytest.warns(UserWarning, match="lineage.json is missing") as said:
        fit(tiny, tmp_path, resume=True)
    lines = [str(line.message) for line in said]
    lines = [line for line in lines if "01-first/lineage.json is missing" in line]
    assert len(lines) == 2
    assert lines[0].startswith("nothing that follows needs it, and the run goes on: ")
    assert same(weights(tmp_path), weights(whole))


def test_a_stage_that_a_teacher_needs_is_read_in_full_and_its_loss_is_an_error(
    tiny: Path, tmp_path: Path
) -> None:
    def data() -> TaskSequenceDataModule:
        return TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1)], batch_size=8)

    def run(**options: Any) -> None:
        fit(tiny, tmp_path, LwF(), data=data(), **options)

    run(kill_at=5)
    file = tmp_path / "stages" / "01-first" / "weights.safetensors"
    whole = file.read_bytes()
    flip(file)
    with (
        pytest.warns(UserWarning, match="01-first/weights.safetensors is damaged"),
        pytest.raises(UserError, match=r"no checkpoint in .*last is whole .*01-first.*Put the files back"),
    ):
        run(resume=True)
    file.write_bytes(whole)
    run(resume=True)


def test_a_damaged_config_is_named(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, kill_at=2)
    truncate(tmp_path / "config.json")
    with pytest.raises(UserError, match=r"--ckpt_path last: .*config.json is damaged"):
        fit(tiny, tmp_path, resume=True)


def test_where_all_are_damaged_the_error_names_them_and_the_way_out(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, kill_at=5)
    for file in (tmp_path / "last").glob("*/process-00000.safetensors"):
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="not used"),
        pytest.raises(UserError, match=r"no checkpoint in .*last is whole.*start afresh"),
    ):
        fit(tiny, tmp_path, resume=True)


def test_where_checkpoints_are_gone_a_run_does_not_begin_anew(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, kill_at=4)
    kept = tmp_path / "elsewhere"
    shutil.move(tmp_path / "last", kept)
    before = contents(tmp_path)
    with pytest.raises(
        UserError, match=r"last holds no checkpoint any more, and the run had come to 01-first"
    ):
        fit(tiny, tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_a_task_is_chosen_by_the_state_it_was_chosen_by_before(tiny: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, list[str]]] = []

    class Replay(Mitigation):
        """Adds as many rows as tasks were met before; what it met is in its plain state and its tensors."""

        met: list[str]

        def __init__(self) -> None:
            super().__init__()
            self._met: list[str] = []

        @override
        def state_dict(self) -> dict[str, Any]:
            return {"met": self._met}

        @override
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self._met = list(state_dict["met"])

        @override
        def select(
            self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
        ) -> Sequence[Row]:
            count = int(self.tensors["count"]) if self.tensors else 0
            seen.append((task.name, [*self._met]))
            assert count == len(self._met)
            return rows[: 8 + count]

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            self._met.append(task.name)
            self.tensors["count"] = torch.tensor(len(self._met))

    fit(tiny, tmp_path / "a", Replay())
    assert seen == [("first", []), ("second", ["first"])]
    seen.clear()
    fit(tiny, tmp_path / "b", Replay(), kill_at=2)
    fit(tiny, tmp_path / "b", Replay(), resume=True)
    assert seen == [("first", []), ("second", ["first"]), ("second", ["first"])]
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_callbacks_that_shared_an_anchor_share_it_after_a_resume(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, LwF(), WiSEFT(measure_before=False), kill_at=5)
    lwf, wise = LwF(), WiSEFT(measure_before=False)
    fit(tiny, tmp_path, lwf, wise, resume=True)
    assert lwf.tensors.keys() == wise.tensors.keys() and lwf.tensors
    for name, tensor in lwf.tensors.items():
        assert tensor.data_ptr() == wise.tensors[name].data_ptr()


def test_copies_of_parameters_that_share_their_values_are_references_each_to_its_own(
    tiny: Path, tmp_path: Path
) -> None:
    lwf = LwF()
    fit(tiny, tmp_path, lwf, recipe="llm.norm", kill_at=1)  # norms of one width, all of them ones
    assert len(lwf.tensors) > 2
    assert all(torch.equal(tensor, torch.ones_like(tensor)) for tensor in lwf.tensors.values())
    newest = files.Checkpoint(max((tmp_path / "last").iterdir()))
    referred = newest.state["references"]
    assert {reference["key"] for reference in referred.values()} == lwf.tensors.keys()
    assert all(key.endswith(f"/{reference['key']}") for key, reference in referred.items())
    assert not any(key.startswith("callback/") for key in newest.reader().keys())
    again = LwF()
    fit(tiny, tmp_path, again, recipe="llm.norm", resume=True, kill_at=2)
    assert same(again.tensors, lwf.tensors)


class Counts(Mitigation):
    """Counts in whole numbers beside every trained parameter, biases of zero among them."""

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        of = module.trained_parameters()
        self.tensors = {f"count/{name}": torch.zeros_like(p, dtype=torch.int16) for name, p in of.items()}


def test_zeros_of_another_kind_are_not_taken_for_a_parameter_that_is_zero(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path / "run", Counts(), kill_at=1)
    counts = Counts()
    fit(tiny, tmp_path / "run", counts, kill_at=2, resume=True)
    assert {tensor.dtype for tensor in counts.tensors.values()} == {torch.int16}


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_gradient_that_is_not_finite_is_never_saved(algorithm: str, tiny: Path, tmp_path: Path) -> None:
    class Break(Mitigation):
        """Breaks the gradient of a task's last step, with a loss that is fine."""

        @override
        def on_before_optimizer_step(
            self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
        ) -> None:
            if trainer.global_step == 2:
                assert isinstance(pl_module, ContinualLMM)
                gradient = next(iter(pl_module.trained_parameters().values())).grad
                assert gradient is not None
                gradient.fill_(float("nan"))

    trainer = toy_trainer(callbacks=[Break()], gradient_clip_algorithm=algorithm)
    with pytest.raises(UserError, match="of task first is not finite at optimizer step 3"):
        trainer.fit(toy_module(tiny, tmp_path), toy_data())
    assert not (tmp_path / "stages" / "01-first").exists()
    for file in (tmp_path / "last").glob("*/*.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(file).values())


def test_another_base_model_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "tiny", seed=0)
    fit(path, tmp_path / "run", kill_at=2)
    tiny_checkpoint(tmp_path / "tiny", seed=1)
    with pytest.raises(UserError, match=r"is not the model that .*run was begun with"):
        fit(path, tmp_path / "run", resume=True)


def test_another_order_of_mitigations_is_another_config(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, LwF(), WiSEFT(measure_before=False), kill_at=2)
    with pytest.raises(UserError, match="begun with another config: callbacks"):
        fit(tiny, tmp_path, WiSEFT(measure_before=False), LwF(), resume=True)


def test_an_object_that_was_fitted_is_not_fitted_again(tiny: Path, tmp_path: Path) -> None:
    module = toy_module(tiny, tmp_path / "a")
    toy_trainer().fit(module, toy_data())
    module.hparams["run"] = tmp_path / "b"
    with pytest.raises(UserError, match="was fitted before; make a new one"):
        toy_trainer().fit(module, toy_data())


def test_state_that_json_would_change_names_the_callback(tiny: Path, tmp_path: Path) -> None:
    class Careless(Mitigation):
        @override
        def state_dict(self) -> dict[str, Any]:
            return {"seen": {1: "first"}}

    with pytest.raises(UserError, match=r"trainer.callbacks: Careless.state_dict must hold plain Python"):
        fit(tiny, tmp_path, Careless())


def test_sigterm_is_given_back_after_a_fit(tiny: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    fit(tiny, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_validate_after_fit_measures(tiny: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(callbacks=[HeldOutEvaluation()])
    module, data = toy_module(tiny, tmp_path), toy_data()
    trainer.fit(module, data)
    stages = len(module.sequence.matrix.stages)
    module.sequence.matrix.stages.clear()
    trainer.validate(module, data, verbose=False)
    assert stages == 3 and len(module.sequence.matrix.stages) == 1
