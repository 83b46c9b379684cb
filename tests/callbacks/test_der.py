"""DER and DER++ against their formulas: a second whole model, full logits, means by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import DER, DERpp, LwF, WiSEFT
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.errors import UserError
from lmmcl.outputs.token_outputs import TokenOutputs
from tests.callbacks.test_data_mix import Seen
from tests.toy import toy_module, toy_task, toy_trainer

WORDS = 1 << 20
"""More than there are: all logits are stored, as in the paper."""


def fit(checkpoint: Path, run: Path, *callbacks: Callback, **options: Any) -> dict[str, dict[str, Tensor]]:
    tasks = [toy_task("first", 0, max_train_samples=8), toy_task("second", 1, max_train_samples=8)]
    data = TaskSequenceDataModule(tasks, batch_size=4, **options)
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run), data)
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


def logged(run: Path, column: str) -> list[float]:
    lines = [line.split(",") for line in (run / "logs" / "metrics.csv").read_text().splitlines()]
    place = lines[0].index(column)
    return [float(line[place]) for line in lines[1:] if line[place]]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Check(DERpp):
    """Counts every step's two terms itself, with the model that the first stage wrote and full logits."""

    def __init__(self, checkpoint: Path, run: Path, **options: Any) -> None:
        super().__init__(**options, name="DERpp")
        self._checkpoint, self._folder = checkpoint, run
        self.sums: dict[int, list[float]] = {}

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        found = super().token_loss(module, batch, outputs)
        if found is None:
            return None
        teacher = type(module.model).from_pretrained(self._checkpoint, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
        stage = self._folder / "stages" / "01-first" / "weights.safetensors"
        assert not teacher.load_state_dict(load_file(stage), strict=False).unexpected_keys
        assert batch.labels is not None
        answers = batch.labels[:, 1:] != IGNORED
        with torch.no_grad():
            stored = teacher(**batch.inputs).logits[:, :-1][answers]
            logits = module.logits(outputs.hidden)
        square = functional.mse_loss(logits, stored, reduction="none").mean(-1)
        loss = functional.cross_entropy(logits, batch.labels[:, 1:][answers], reduction="none")
        names = [batch.ids[sample] for sample in answers.nonzero()[:, 0]]
        matched = torch.tensor([name.startswith("DERpp logits/first/") for name in names])
        taught = torch.tensor([name.startswith("DERpp answers/first/") for name in names])
        expected = self.alpha * square * matched + self.beta * loss * taught
        torch.testing.assert_close(found.detach(), expected, rtol=1e-3, atol=1e-6)
        sums = self.sums.setdefault(module.sequence.position.global_step, [0.0] * 4)
        parts = (square[matched].sum(), matched.sum(), loss[taught].sum(), taught.sum())
        self.sums[module.sequence.position.global_step] = [
            a + float(b) for a, b in zip(sums, parts, strict=True)
        ]
        return found


def test_the_term_is_alpha_and_beta_times_a_mean_over_each_draw_and_the_loss_sees_neither(
    tiny: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    check, seen = Check(tiny, run, alpha=0.7, beta=0.2, buffer=3, per_step=2, top_k=WORDS), Seen()
    found = fit(tiny, run, check, seen, micro_batch_size=3)
    plain = fit(tiny, tmp_path / "plain", micro_batch_size=3)
    assert [len(ids) for ids in seen.steps] == [4, 4, 8, 8]
    assert same(found["01-first"], plain["01-first"])
    expected = [0.7 * a / n + 0.2 * b / m for _, (a, n, b, m) in sorted(check.sums.items())]
    assert logged(run, "DERpp") == pytest.approx(expected, rel=1e-4) and len(expected) == 2
    # At the second task's first step both runs have the same weights; the loss must be the task's alone.
    assert logged(run, "loss")[:3] == pytest.approx(logged(tmp_path / "plain", "loss")[:3], rel=1e-5)
    assert any(not torch.equal(found["02-second"][name], t) for name, t in plain["02-second"].items())


@pytest.mark.parametrize(
    "kept", [{"buffer": 4}, {"buffer": 0.1, "begin_with": "general", "begin_samples": 4}]
)
def test_a_model_that_has_not_changed_since_has_no_squared_error(
    tiny: Path, tmp_path: Path, kept: dict[str, Any]
) -> None:
    """Also after WiSE-FT, listed later, has moved the weights: what is stored is what the stage became."""
    fit(tiny, tmp_path, DER(1.0, **kept), WiSEFT(0.5, measure_before=False))
    terms = logged(tmp_path, "DER")
    assert len(terms) == (4 if "begin_with" in kept else 2)
    assert 0 <= terms[0] < 1e-9
    assert terms[1] > 1e-6


def test_with_beta_zero_it_is_der(tiny: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"alpha": 0.5, "buffer": 4, "name": "it"}
    der = fit(tiny, tmp_path / "der", DER(**options))
    found = fit(tiny, tmp_path / "found", DERpp(beta=0.0, **options))
    assert all(same(found[stage], der[stage]) for stage in der)
    more = fit(tiny, tmp_path / "more", DERpp(beta=0.5, **options))
    assert not same(more["02-second"], der["02-second"])


def test_another_mitigation_s_term_does_not_see_its_rows(tiny: Path, tmp_path: Path) -> None:
    """With next to no strength its rows are there, and the weights those of LwF alone."""
    fit(tiny, tmp_path / "alone", LwF())
    fit(tiny, tmp_path / "both", LwF(), DER(alpha=1e-9, buffer=4))
    alone, both = (logged(tmp_path / name, "LwF") for name in ("alone", "both"))
    assert both == pytest.approx(alone, rel=1e-3, abs=1e-6) and max(alone) > 1e-3


def test_it_keeps_the_largest_logits_of_every_answer_token_in_the_order_of_its_rows(
    tiny: Path, tmp_path: Path
) -> None:
    class Look(DER):
        """Compares what is stored with the model that stands."""

        looked = False

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            if task.name == "first":
                return
            rows = self._memory.rows(module.data)
            words, logits = (self.tensors[key].split(self._lengths) for key in ("words", "logits"))
            for row, mine, values in zip(rows, words, logits, strict=True):
                with module.inference():
                    outputs = module.token_outputs(module.data.collator.train([row]))
                    best = module.logits(outputs.hidden).topk(5)
                assert torch.equal(mine, best.indices) and mine.dtype == torch.int32
                torch.testing.assert_close(values, best.values, rtol=1e-4, atol=1e-5)
            self.looked = True

    look = Look(buffer=5, top_k=5, name="DER")
    fit(tiny, tmp_path, look)
    assert look.looked
    last = max((tmp_path / "last").iterdir())
    saved = json.loads((last / "manifest.json").read_text())["files"]["process-00000.safetensors"]["pieces"]
    assert saved["callback/DER/words"]["whole"] == [sum(look._lengths), 5]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"alpha": -1.0}, r"DERpp\.alpha"),
        ({"beta": -1.0}, r"DERpp\.beta"),
        ({"top_k": 0}, r"DERpp\.top_k"),
        ({"per_step": 0}, r"DERpp\.per_step"),
        ({"buffer": 1.5}, r"DERpp\.buffer"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        DERpp(**options)
