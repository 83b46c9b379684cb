"""A task of several epochs keeps the features of its rows: the same bytes whatever is kept, and otherwise untouched."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import LwF
from lmmcl.data.batches import collate
from lmmcl.data.batches.apart import NotApartError, laid_together
from lmmcl.data.batches.mixing import mix
from lmmcl.errors import UserError
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.kept_outputs import UnkeepableError
from lmmcl.outputs import row_features
from lmmcl.outputs.forward import AnswerForward
from lmmcl.outputs.row_features import RowFeatures
from lmmcl.sequence import row_proof
from lmmcl.sequence.kept_rows import _visits, _without_picture
from lmmcl.sequence.task_sequence import TaskSequence
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.picture_path import PicturePath
from tests.toy import ToySource, toy_module, toy_task, toy_trainer
from tests.two_processes import Killed, KillerAtStep

STAGE = "stages/01-first/weights.safetensors"
Fit = Callable[..., bytes]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rows that passed the tower alone, but for the proof's."""
    seen: list[str] = []
    alone = row_features.row_pass

    def watched(original: Any, row: Any, *arguments: Any) -> Any:
        seen.append(row.key)
        return alone(original, row, *arguments)

    monkeypatch.setattr(row_features, "row_pass", watched)
    return seen


@pytest.fixture
def fit(tiny: Path, tmp_path: Path) -> Fit:
    """Trains one task of two epochs, with a teacher and rows without pictures, and returns its weights."""

    def run(name: str, kill_at: int | None = None, resume: bool = False, **options: Any) -> bytes:
        task = {key: options.pop(key) for key in ("recipe", "epochs") if key in options}
        data = TaskSequenceDataModule(
            [toy_task("first", 0, text=True, **{"epochs": 2, **task})], **{"batch_size": 8, **options}
        )
        module = toy_module(tiny, tmp_path / name, resume=resume, checkpoint_every_n_steps=2)
        toy_trainer(callbacks=[KillerAtStep(kill_at), LwF()]).fit(module, data)
        return (tmp_path / name / STAGE).read_bytes()

    return run


def test_the_weights_are_the_same_bytes_whatever_is_kept(fit: Fit, passes: list[str], tmp_path: Path) -> None:
    plain = load(fit("plain", micro_batch_size=4))
    assert not passes
    folder = str(tmp_path / "features")
    cold = fit("cold", cache_features=folder, micro_batch_size=4)
    pictures = sum(bool(row.images) for row in ToySource(0, text=True).split("train"))
    assert len(passes) == len(set(passes)) == pictures
    for name, tensor in load(cold).items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-4, atol=1e-5)
    passes.clear()
    with pytest.raises(Killed):
        fit("again", kill_at=4, cache_features=folder, micro_batch_size=4)
    assert not passes
    for file in list(Path(folder).iterdir())[::2]:
        file.unlink()
    assert fit("again", resume=True, cache_features=folder, micro_batch_size=4) == cold
    assert passes
    passes.clear()
    small = {"cache_features": str(tmp_path / "small"), "cache_features_gb": 1e-5}
    assert fit("small", micro_batch_size=4, **small) == cold
    assert pictures < len(passes) < 2 * pictures
    layout = {"packing": True, "micro_batch_tokens": 120}
    for name, tensor in load(fit("packed", cache_features=folder, **layout)).items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"epochs": 1}, {"recipe": ["sa_proj", "projector"]}])
def test_a_task_that_gains_nothing_or_trains_the_projector_is_as_before(
    options: dict[str, Any], fit: Fit, passes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    init = TaskSequence.__init__

    def listening(self: TaskSequence) -> None:
        init(self)
        self.report_notice = said.append

    monkeypatch.setattr(TaskSequence, "__init__", listening)
    monkeypatch.setattr(collate, "laid_together", None)
    fit("kept", cache_features=str(tmp_path / "features"), **options)
    told = [text for text in said if "cache_features" in text]
    assert not passes
    assert not list(tmp_path.glob("features/*"))
    assert len(told) == ("recipe" in options)
    assert not told or ("first: " in told[0] and "it trains vision tower or projector" in told[0])


def test_a_model_whose_rows_do_not_make_the_batch_is_named_once_and_trains_without(
    fit: Fit, passes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_proof, "_ROUNDING", -1.0)
    with pytest.warns(UserWarning, match="LlavaFor.* keeps no features of training rows: .* differ") as told:
        fit("kept", cache_features=str(tmp_path / "features"))
    assert len([one for one in told if "cache_features" in str(one.message)]) == 1
    assert not passes


def test_rows_are_kept_that_are_met_twice_on_average() -> None:
    rows = ToySource(0).split("train")
    assert _visits(rows, 1) == 1
    assert _visits(rows, 2) == 2
    few, many = list(rows[:5]), list(rows[5:])
    assert _visits(mix(few, many, 0.5, None, 0), 1) == 30 / 20  # the five begin again twice
    assert _visits(mix(few, many, 0.5, None, 0), 2) == 3


@pytest.fixture(scope="module")
def kept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model that keeps rows, and what it is made of."""
    module = toy_module(tiny, tmp_path_factory.mktemp("run"))
    model = module.checkpoint.model(True, 0, "eager")
    data = TaskSequenceDataModule([toy_task("first", 0)])
    data.attach(module.processor, None)
    anatomy = Anatomy.of(model)
    forwards, path = AnswerForward(model, False, anatomy), PicturePath(model, anatomy)
    runner = SimpleNamespace(
        data=data,
        device=torch.device("cpu"),
        inference=forwards.inference,
        token_outputs=forwards.token_outputs,
        free_gathered=forwards.free_gathered,
    )
    rows = ToySource(0).split("train")
    points, joint, _ = row_proof.prove_rows(runner, path, rows[:2])  # type: ignore[arg-type]  # what it needs of one
    batch = data.collator.train(rows[:4], apart=True)
    return SimpleNamespace(
        path=path,
        points=points,
        joint=joint,
        forwards=forwards,
        batch=batch,
        anatomy=anatomy,
        model=model,
        runner=runner,
        rows=rows,
    )


@pytest.fixture
def forwards(kept: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The forwards of the proof that ended, and what was let go of."""
    seen: list[str] = []

    def ended(batch: Any) -> None:
        kept.forwards.token_outputs(batch)
        seen.append("ended")

    monkeypatch.setattr(kept.runner, "token_outputs", ended)
    monkeypatch.setattr(kept.runner, "free_gathered", lambda: seen.append("freed"))
    return seen


def test_where_rows_differ_the_forward_goes_on_as_on_processes_that_find_them_equal(
    kept: SimpleNamespace, forwards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_proof, "_ROUNDING", -1.0)
    with pytest.raises(UnkeepableError, match="features of rows differ by"):
        row_proof.prove_rows(kept.runner, kept.path, kept.rows[:2])
    assert forwards == ["ended", "freed"] * 2


@pytest.mark.parametrize("said", [RuntimeError, AttributeError, torch.OutOfMemoryError])
def test_a_model_that_fails_on_one_row_is_not_kept_unless_memory_lacks(
    said: type[Exception], kept: SimpleNamespace, forwards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> None:
        raise said("one row is too few")

    monkeypatch.setattr(row_proof, "row_pass", failing)
    memory = said is torch.OutOfMemoryError
    with pytest.raises(said if memory else UnkeepableError, match="one row is too few"):
        row_proof.prove_rows(kept.runner, kept.path, kept.rows[:2])
    assert forwards == ["ended", "freed", "freed"]


def test_a_process_on_which_nothing_differs_learns_it_before_the_next_forward(
    kept: SimpleNamespace, forwards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_proof, "most", lambda count: 1)
    with pytest.raises(UnkeepableError, match="another process"):
        row_proof.prove_rows(kept.runner, kept.path, kept.rows[:2])
    assert not forwards


def test_features_that_cannot_be_laid_together_in_training_say_how_to_go_on(
    kept: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(parts: Any) -> None:
        torch.cat([torch.zeros(1, 2), torch.zeros(1, 3)])

    folder = FeatureFolder(tmp_path, 1 << 30)
    features = RowFeatures(kept.path, kept.points, odd, "", folder)  # type: ignore[arg-type]  # in place of a joint
    monkeypatch.setattr(kept.forwards, "row_features", features)
    with pytest.raises(UserError, match=r"Sizes of tensors must match.*--ckpt_path last"):
        kept.forwards.token_outputs(kept.batch)


def test_a_row_without_a_picture_is_found_among_many() -> None:
    rows = list(ToySource(0).split("train")) * 20
    assert _without_picture(rows) is None
    rows[200:] = list(ToySource(0, text=True).split("train")) * 10
    found = _without_picture(rows)
    assert found is not None
    assert not found.images


def test_a_processor_whose_rows_without_a_picture_stand_with_no_others_is_named_before_the_training(
    fit: Fit, passes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_pictures(made: Any, pad: int) -> Any:
        if any("pixel_values" not in one for one in made):
            raise NotApartError("a row has no pixels")
        return laid_together(made, pad)

    monkeypatch.setattr(collate, "laid_together", only_pictures)
    with pytest.warns(UserWarning, match="keeps no features of training rows: a row has no pixels"):
        fit("kept", cache_features=str(tmp_path / "features"))
    assert not passes


def test_other_weights_of_the_tower_are_not_answered_with_what_is_kept(
    kept: SimpleNamespace, tmp_path: Path
) -> None:
    features = RowFeatures(kept.path, kept.points, kept.joint, "", FeatureFolder(tmp_path, 1 << 30))
    parameters = dict(kept.model.named_parameters())
    name = next(n for n in parameters if kept.anatomy.group_of(n).startswith("projector"))
    other = {name: parameters[name].detach() * 2}
    plain = kept.forwards.token_outputs(kept.batch, weights=other).hidden
    kept.forwards.row_features = features
    try:
        kept.forwards.token_outputs(kept.batch)
        assert len(list(tmp_path.iterdir())) == 4
        assert torch.equal(kept.forwards.token_outputs(kept.batch, weights=other).hidden, plain)
    finally:
        kept.forwards.row_features = None


def test_processes_that_share_a_sharded_tower_pass_it_equally_often(
    kept: SimpleNamespace, tmp_path: Path, passes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def most(count: int) -> int:
        told.append((count, len(passes)))
        return 3

    monkeypatch.setattr(row_features, "most", most)
    folder = FeatureFolder(tmp_path, 1 << 30)
    features = RowFeatures(kept.path, kept.points, kept.joint, "", folder, together=True)
    monkeypatch.setattr(kept.forwards, "row_features", features)
    kept.forwards.token_outputs(kept.batch)
    assert told == [(4, 0)]  # asked before the first pass, which waits for the others
    passes.clear()
    kept.forwards.token_outputs(kept.batch)
    assert told[1:] == [(0, 0)]
    assert len(passes) == 3  # for the others
