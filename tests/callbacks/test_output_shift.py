"""How far the output moved, and what comes back when its bias is taken out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lmmcl import ContinualLMM
from lmmcl.callbacks import OutputShift
from lmmcl.errors import UserError
from lmmcl.evaluation.token_classes import token_partition
from lmmcl.outputs.shift import CorrectedLogits, returned
from tests.callbacks.probed import probed

SERIES = ("all", "numbers", "letters", "yes/no", "rest")


@contextmanager
def head_with_bias(module: ContinualLMM) -> Iterator[nn.Parameter]:
    """Gives the output embedding a bias, of zeros."""
    head: Any = module.model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
    head.bias = nn.Parameter(torch.zeros(head.weight.shape[0]))
    try:
        yield head.bias
    finally:
        head.bias = None


def test_a_head_whose_bias_alone_was_changed_is_repaired_whole(tiny: Path) -> None:
    module = probed(tiny).module
    probe = OutputShift(samples=6, batch_size=2)
    with head_with_bias(module) as bias:
        probe._remember(module)
        name = next(name for name, parameter in module.parameters_by_name().items() if parameter is bias)
        probe.tensors[f"head/{name}"] = torch.zeros_like(bias)
        before = answers(module, probe, [])
        with torch.no_grad():
            bias.copy_(8 * torch.randn(len(bias), generator=torch.Generator().manual_seed(1)))
        correction = probe.tensors["mean_log_probabilities"] - probe._mean(module)
        found, by_row = probe.read(module, correction)
        assert answers(module, probe, []) != before
        assert answers(module, probe, [CorrectedLogits(correction)]) == before
    assert found["present"] > found["base"] + 1
    assert {name: float(rows.mean()) for name, rows in by_row.items()} == pytest.approx(
        {name: found[name] for name in ("base", "present", "corrected")}
    )
    assert returned(**by_row) == pytest.approx(1, abs=1e-4)
    assert found["corrected"] == pytest.approx(found["base"], rel=1e-5)
    spread = correction + bias.detach()
    assert float(spread.std()) < 1e-4, "the correction is minus the bias, but for a constant"


def answers(module: ContinualLMM, probe: OutputShift, processors: list[Any]) -> list[str]:
    """Greedy answers to the scored rows."""
    from lmmcl.evaluation.generate import generate

    with module.inference():
        batch = module.data.collator.prompts([row for _, row in probe.halves(module)[1]])
        return generate(module.model, module.processor, batch, 4, processors)


def test_the_rows_that_calibrate_and_those_that_are_scored_have_none_in_common(tiny: Path) -> None:
    module = probed(tiny).module
    one, other = OutputShift(samples=6).halves(module)
    ids = [[row.id for _, row in half] for half in (one, other)]
    assert [len(half) for half in ids] == [3, 3] and not set(ids[0]) & set(ids[1])
    rows = module.data.eval_rows(module.data.held_out[0], "dev", 6)
    assert sorted(ids[0] + ids[1]) == sorted(row.id for row in rows)


def test_the_losses_are_those_of_the_base_and_the_present_model(tiny: Path) -> None:
    """The loss of the base model, made of the hidden states that were kept, stays what it was at stage 0."""
    run = probed(tiny)
    base, *later = run.log("OutputShift loss").at_stages
    assert base.values["base"] == base.values["present"] == base.values["corrected"]
    module, probe = run.module, run.probes[OutputShift]
    nll: list[float] = []
    with module.inference():
        for batch in probe._batches(module, 1):
            outputs = module.token_outputs(batch)
            losses = outputs.map(lambda z, y: nn.functional.cross_entropy(z, y, reduction="none"))
            nll += losses.tolist()
    for row in later:
        assert row.values["base"] == base.values["base"]
    assert later[-1].values["present"] == pytest.approx(sum(nll) / len(nll), rel=1e-6)


@pytest.mark.parametrize("name", ["OutputShift", "OutputShift KL"])
def test_what_is_written_adds_up(tiny: Path, name: str) -> None:
    for row in probed(tiny).log(name).at_stages:
        assert row.values.keys() == set(SERIES)
        assert row.values["all"] == pytest.approx(sum(row.values[part] for part in SERIES[1:]))


def test_every_log_says_how_many_rows_it_is_of_and_that_they_are_not_the_matrix_s(tiny: Path) -> None:
    run = probed(tiny)
    scored = len(run.probes[OutputShift].halves(run.module)[1])
    logs = [run.log(f"OutputShift {name}".strip()) for name in ("", "KL", "loss", "answers", "recovered")]
    said = f"{scored} dev rows of the held-out tasks, a sample of its own beside the matrix's"
    assert all(said in log.about for log in logs)
    assert len({log.title for log in logs}) == 5 and "Output shift: greedy answers" in {
        log.title for log in logs
    }


def test_its_state_is_as_small_as_it_says(tiny: Path) -> None:
    run = probed(tiny)
    probe = run.probes[OutputShift]
    words = len(probe.tensors["mean_log_probabilities"])
    assert sum(map(len, token_partition(run.module.processor.tokenizer.get_vocab(), words).values())) == words
    assert probe.tensors.keys() == {"mean_log_probabilities", "hidden"}, "the head is frozen"


@pytest.mark.parametrize("options", [{"samples": 1}, {"answer_tokens": 0}, {"batch_size": 0}])
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"OutputShift.{next(iter(options))}"):
        OutputShift(**options)
