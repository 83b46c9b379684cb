"""LoRA: adapters that begin as nothing, are merged from W_0 and never from a merge, and leave plain weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task, TaskSequenceDataModule
from lmmcl.adapters.low_rank import names_of
from lmmcl.callbacks import EMA, EWC, SFA, LoRA, LwF, OLoRA, WiSEFT
from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.export.stage import export
from lmmcl.sequence.stage_weights import StageWeights
from tests.callbacks.laws import law_data, law_fit, law_weights
from tests.toy import toy_module, toy_task, toy_trainer

STAGE = "03-third"


class Watch(StageCallback):
    """Logits at the answers of a few rows and values of the parameters, at every moment of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: dict[str, Tensor] = {}
        self.values: dict[str, dict[str, Tensor]] = {}
        self.notices: list[str] = []

    def look(self, module: ContinualLMM, moment: str) -> None:
        self.logits[moment] = logits(module)
        self.values[moment] = {name: p.detach().clone() for name, p in module.parameters_by_name().items()}

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        module.sequence.report_notice = self.notices.append
        self.look(module, f"{task.name} starts")

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.look(module, f"{task.name} ends")

    @override
    def on_stage_end(self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: object) -> None:
        self.look(module, f"{task.name if task else 'base'} written")


def logits(module: ContinualLMM) -> Tensor:
    batch = module.data.collator.train(module.data.train_rows(0)[:4])
    with module.inference():
        return module.token_outputs(batch).map(lambda given, labels: given.float())


def lora(**options: object) -> LoRA:
    return LoRA(**{"rank": 3, "alpha": 6.0, "dropout": 0.2, **options})  # type: ignore[arg-type]  # plain values


@pytest.fixture(scope="module")
def base(tiny: Path) -> dict[str, Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(tiny).named_parameters())


class Run:
    """A run of the laws' sequence, what was seen in it, and its module at its end."""

    def __init__(self, tiny: Path, path: Path, *callbacks: Callback) -> None:
        self.path, self.watch = path, Watch()
        self.module = law_fit(tiny, path, [*callbacks, self.watch])


@pytest.fixture(scope="module")
def merged(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tiny, tmp_path_factory.mktemp("runs") / "merged", lora())


@pytest.fixture(scope="module")
def kept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tiny, tmp_path_factory.mktemp("runs") / "kept", lora(at_end="keep"))


def test_fresh_adapters_change_nothing_bit_for_bit(merged: Run, kept: Run) -> None:
    for run in (merged, kept):
        for before, after in (("base written", "first starts"), ("first written", "second starts")):
            assert torch.equal(run.watch.logits[before], run.watch.logits[after])
    plain = type(merged.module.model).from_pretrained(merged.module.hparams["path"])  # type: ignore[attr-defined]  # transformers
    batch = merged.module.data.collator.train(merged.module.data.train_rows(0)[:4])
    assert batch.labels is not None
    with torch.no_grad():
        given = plain(**batch.inputs).logits[:, :-1][batch.labels[:, 1:] != -100]
    torch.testing.assert_close(merged.watch.logits["base written"], given, rtol=1e-4, atol=1e-5)


def test_what_is_learned_stays_what_it_was_when_it_is_merged(merged: Run) -> None:
    seen = merged.watch.logits
    for task in ("first", "second", "third"):
        torch.testing.assert_close(seen[f"{task} written"], seen[f"{task} ends"], rtol=1e-4, atol=1e-5)
        assert (seen[f"{task} ends"] - seen[f"{task} starts"]).abs().max() > 1e-2


def test_merge_and_keep_are_one_function(merged: Run, kept: Run) -> None:
    one, other = law_weights(merged.path)[STAGE], law_weights(kept.path)[STAGE]
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        merged.watch.logits["third written"], kept.watch.logits["third written"], rtol=1e-2, atol=1e-3
    )


def test_a_stage_holds_the_adapters_of_its_tasks_and_nothing_else(
    merged: Run, base: dict[str, Tensor]
) -> None:
    chosen = {"first": ("q_", "k_", "v_", "o_"), "second": ("gate_", "up_")}
    expected: set[str] = set()
    for number, task in enumerate(("first", "second"), 1):
        names = [n for n in base if ".layers." in n and "language" in n and n.endswith(".weight")]
        for name in names:
            if any(f".{part}proj." in name for part in chosen[task]):
                expected |= set(names_of(name, f"task_{number}"))
        held = load_file(merged.path / f"stages/{number:02d}-{task}/weights.safetensors")
        assert held.keys() == expected
        assert all(t.dtype == torch.float32 and 3 in t.shape for t in held.values())


def test_base_parameters_keep_their_names_and_only_adapted_ones_are_merged_into(
    merged: Run, kept: Run, base: dict[str, Tensor]
) -> None:
    now = merged.module.parameters_by_name()
    assert base.keys() <= now.keys()
    assert not [name for name in now if "base_layer" in name]
    folded = law_weights(merged.path)[STAGE]
    for name, value in base.items():
        assert torch.equal(now[name], folded.get(name, value))
        assert torch.equal(kept.module.parameters_by_name()[name], value)


def test_the_update_of_a_task_has_the_rank_of_its_adapter(merged: Run, base: dict[str, Tensor]) -> None:
    for name, tensor in law_weights(merged.path)["01-first"].items():
        if name.endswith(".bias"):  # frozen
            assert torch.equal(tensor, base[name])
            continue
        values = torch.linalg.svdvals((tensor - base[name].detach()).double())
        assert float(values[2]) > 1e-3 and float(values[3]) < 1e-5


def test_dropout_resumes_to_the_same_bytes_in_the_middle_of_a_stage(
    merged: Run, tiny: Path, tmp_path: Path
) -> None:
    law_fit(tiny, tmp_path, [lora(), Watch()], kill_at=4)
    law_fit(tiny, tmp_path, [lora(), Watch()], kill_at="end", resume=True)
    law_fit(tiny, tmp_path, [lora(), Watch()], resume=True)
    for stage in ("01-first", "02-second", STAGE):
        for file in ("weights.safetensors", "lineage.json"):
            mine, other = (run / "stages" / stage / file for run in (tmp_path, merged.path))
            assert mine.read_bytes() == other.read_bytes(), (stage, file)


def test_the_base_weights_that_a_merge_starts_from_take_no_disk(merged: Run) -> None:
    adapters = sum(
        p.numel() for n, p in merged.module.parameters_by_name().items() if n in merged.module.ever_trained()
    )
    held = load_file(max((merged.path / "last").iterdir()) / "process-00000.safetensors")
    assert sum(t.numel() for t in held.values()) == adapters
    assert {name.partition("/")[0] for name in held} == {"model"}


@pytest.fixture(scope="module")
def tiny_bf16(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bf16") / "tiny"
    shutil.copytree(tiny, folder)
    AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rounded(tiny_bf16: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two tasks on the same linears of a bf16 model, the second small enough to be lost where roundings add up."""
    path, watch = tmp_path_factory.mktemp("rounded") / "run", Watch()
    tasks = [toy_task(name, shift, max_train_samples=8) for shift, name in enumerate(("first", "second"))]
    run = Run.__new__(Run)
    run.path, run.watch, run.module = path, watch, toy_module(tiny_bf16, path)
    trainer = toy_trainer(callbacks=[lora(), watch], precision="bf16-mixed")
    trainer.fit(run.module, TaskSequenceDataModule(tasks, batch_size=4))
    return run


def test_a_merge_starts_from_the_base_weights_and_not_from_the_merge_before(rounded: Run) -> None:
    began, first, second = (
        rounded.watch.values[f"{moment} written"] for moment in ("base", "first", "second")
    )
    end = rounded.watch.values["second ends"]
    differs = 0
    for name in [name for name in began if names_of(name, "task_1")[0] in began]:
        deltas = [2.0 * end[up] @ end[down] for down, up in (names_of(name, f"task_{k}") for k in (1, 2))]
        assert began[name].dtype == torch.bfloat16
        assert torch.equal(first[name], (began[name].float() + deltas[0]).bfloat16())
        assert torch.equal(second[name], (began[name].float() + deltas[0] + deltas[1]).bfloat16())
        differs += int((second[name] != (first[name].float() + deltas[1]).bfloat16()).sum())
    assert differs > 0  # merged into the merge before, the second stage would be another one


def test_what_bf16_makes_of_a_merge_is_said_after_every_task(rounded: Run, merged: Run) -> None:
    said = [line for line in rounded.watch.notices if "merged" in line]
    assert len(said) == 2 and "moved logits by" in said[0] and "% of the change so far" in said[0]
    moved = rounded.watch.logits["first written"] - rounded.watch.logits["first ends"]
    assert 0 < float(moved.abs().max()) < 0.5
    assert not merged.watch.notices  # in fp32 there is nothing to say


def test_an_exported_stage_is_the_merged_model(merged: Run, kept: Run, rounded: Run, tmp_path: Path) -> None:
    for run, stage in ((merged, STAGE), (rounded, "02-second")):
        export(run.path, None, tmp_path / run.path.name)
        plain = AutoModelForImageTextToText.from_pretrained(tmp_path / run.path.name)
        now = run.module.parameters_by_name()
        for name, parameter in plain.named_parameters():
            assert torch.equal(parameter, now[name]), (stage, name)
    export(kept.path, 1, tmp_path / "first", "float32")
    found = dict(AutoModelForImageTextToText.from_pretrained(tmp_path / "first").named_parameters())
    for name, value in law_weights(kept.path)["01-first"].items():
        assert torch.equal(found[name], value)
    assert "folds" not in (tmp_path / "first" / "lmmcl.json").read_text()


@pytest.mark.parametrize("make", [lora, lambda: lora(at_end="keep"), None], ids=["merge", "keep", "plain"])
def test_a_stage_is_measured_again_with_adapters_or_without(
    make: Callable[[], LoRA] | None, merged: Run, kept: Run, tiny: Path, tmp_path: Path
) -> None:
    run = kept if make is not None and make().at_end == "keep" else merged
    seen: list[Tensor] = []

    class Last(Callback):
        @override
        def on_validation_end(self, trainer: Trainer, pl_module: object) -> None:
            assert isinstance(pl_module, ContinualLMM)
            seen.append(logits(pl_module))

    callbacks = [*([make()] if make is not None else []), StageWeights(run.path, 2), Last()]
    trainer = toy_trainer(callbacks=callbacks)
    trainer.validate(toy_module(tiny, tmp_path), datamodule=law_data(), verbose=False)
    assert torch.equal(seen[0], run.watch.logits["second written"])


def test_a_teacher_is_the_model_of_the_stage_before(tiny: Path, tmp_path: Path) -> None:
    """At the first step of a task student and teacher are one: KL 0; an EWC beside it measures a whole gradient."""
    run = Run(tiny, tmp_path, lora(dropout=0.0), LwF(), EWC(batches=1))
    lines = [line.split(",") for line in (tmp_path / "logs" / "metrics.csv").read_text().splitlines()]
    terms = [float(line[lines[0].index("LwF")]) for line in lines[1:]]
    assert all(abs(terms[step]) < 1e-6 < terms[step + 2] for step in (0, 3, 6))
    assert run.module.trained and all(".lora" in group for group in run.module.trained.values())


def test_adapters_are_drawn_from_the_seed_the_task_and_the_layer(
    merged: Run, kept: Run, tiny: Path, tmp_path: Path
) -> None:
    one, other = (run.watch.values["base written"] for run in (merged, kept))
    names = [name for name in one if ".lora_A." in name]
    assert all(torch.equal(one[name], other[name]) for name in names)
    assert len({float(one[name].sum()) for name in names}) == len(names)
    bound = 1 / one[names[0]].shape[1] ** 0.5
    assert 0.8 * bound < float(one[names[0]].abs().max()) <= bound
    assert all(not one[name].any() for name in one if ".lora_B." in name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LoRA(rank=0), "LoRA.rank must be at least 1, got 0"),
        (lambda: LoRA(alpha=0), "LoRA.alpha must be above 0, got 0"),
        (lambda: LoRA(dropout=1), "LoRA.dropout must lie in \\[0, 1\\), got 1"),
        (lambda: LoRA(at_end="reset"), "LoRA.at_end must be merge or keep, got 'reset'"),  # type: ignore[arg-type]
        (lambda: OLoRA(weight=-1), "OLoRA.weight must be at least 0, got -1"),
    ],
)
def test_a_value_out_of_its_range_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_a_recipe_of_more_than_linears_is_refused_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    module = toy_module(tiny, tmp_path, recipe="llm")
    with pytest.raises(UserError, match=r"(?s)LoRA adapts linear layers only.*embed_tokens.*llm\.mlp\.up"):
        toy_trainer(callbacks=[LoRA()]).fit(module, TaskSequenceDataModule([toy_task("one", 0)]))


@pytest.mark.parametrize(
    "other", [WiSEFT(), EMA(), SFA(), OLoRA(), LoRA(name="second")], ids=lambda o: o.name
)
def test_what_mixes_tensors_or_adapts_them_too_is_refused(other: Callback) -> None:
    with pytest.raises(UserError, match="cannot work together"):
        check_conflicts([LoRA(), other])
    check_conflicts([LoRA(), LwF(), EWC(), WiSEFT(0.0), SFA(0.0), EMA(1.0)])
