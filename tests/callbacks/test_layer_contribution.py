"""The distance of two products with two heads, without making either."""

from pathlib import Path
from typing import Any

import pytest
import torch

import lmmcl.callbacks.layer_contribution as layer_contribution
from lmmcl.callbacks import LayerContribution
from lmmcl.callbacks.layer_contribution import _mean_of_samples, grams_of, logit_distance
from lmmcl.errors import UserError
from lmmcl.probing.probe import answer_batches, head_weight
from tests.callbacks.probed import probed

TOKENS, WIDTH, WORDS = 5, 8, 33


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [4, 8192])
def test_it_is_the_norm_of_the_difference_of_the_logits(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """With a frozen head and with one that trained, in blocks of words of any size."""
    monkeypatch.setattr(layer_contribution, "_ROWS_AT_ONCE", rows)
    now, base = numbers(TOKENS, WIDTH), numbers(TOKENS, WIDTH, seed=1)
    head, other = numbers(WORDS, WIDTH, seed=2), numbers(WORDS, WIDTH, seed=3)
    frozen = logit_distance(now, base, grams_of(head))
    torch.testing.assert_close(frozen, (now @ head.T - base @ head.T).norm(dim=-1))
    trained = logit_distance(now, base, grams_of(head, other))
    torch.testing.assert_close(trained, (now @ head.T - base @ other.T).norm(dim=-1))


def test_a_head_that_did_not_move_is_a_frozen_one() -> None:
    now, base, head = numbers(TOKENS, WIDTH), numbers(TOKENS, WIDTH, seed=1), numbers(WORDS, WIDTH, seed=2)
    torch.testing.assert_close(
        logit_distance(now, base, grams_of(head, head.clone())), logit_distance(now, base, grams_of(head))
    )


def test_a_small_change_of_a_large_head_is_not_lost_in_rounding() -> None:
    state, head = numbers(TOKENS, WIDTH), 100 * numbers(WORDS, WIDTH, seed=2)
    moved = head + 2**-10 * numbers(WORDS, WIDTH, seed=3)
    expected = (state.double() @ (moved.double() - head.double()).T).norm(dim=-1).float()
    torch.testing.assert_close(logit_distance(state, state, grams_of(moved, head)), expected)


def test_an_unchanged_model_is_exactly_nothing_away() -> None:
    state, head = numbers(TOKENS, WIDTH), numbers(WORDS, WIDTH, seed=2)
    assert not logit_distance(state, state.clone(), grams_of(head, head.clone())).any()


def test_tokens_are_averaged_within_their_sample_first() -> None:
    values = torch.tensor([[1.0, 3.0, 10.0], [0.0, 0.0, 6.0]])
    assert _mean_of_samples(values, torch.tensor([0, 0, 2])) == [6.0, 3.0]


def test_a_run_says_what_two_whole_models_side_by_side_say(tiny: Path) -> None:
    """The base model's outputs by hooks on its own attention and MLP, the products with the head in full."""
    run = probed(tiny)
    module, probe = run.module, run.probes[LayerContribution]
    base = type(module.model).from_pretrained(tiny, attn_implementation="eager").eval()  # type: ignore[attr-defined]  # transformers
    samples: dict[str, list[float]] = {}
    for row in probe._rows:
        (batch,) = answer_batches(module, [row], 1, 8)
        assert batch.labels is not None
        positions = (batch.labels[:, 1:] != -100).nonzero()[:, 1]
        head = module.model.get_parameter(head_weight(module))
        outputs = []
        for model in (base, module.model.eval()):
            seen: dict[str, torch.Tensor] = {}
            handles = []
            for i, path in enumerate(module.anatomy.decoder_layers):
                layer: Any = model.get_submodule(path)
                for kind, part in (("attention", layer.self_attn), ("MLP", layer.mlp)):
                    handles.append(part.register_forward_hook(_keep(seen, f"layer {i} {kind}")))
            with torch.no_grad():
                model(**batch.inputs)
            for handle in handles:
                handle.remove()
            outputs.append(seen)
        for name, before in outputs[0].items():
            logits = [states[0, positions] @ head.detach().T for states in (before, outputs[1][name])]
            samples.setdefault(name, []).append(float((logits[1] - logits[0]).norm(dim=-1).mean()))
    expected = {name: sum(values) / len(values) for name, values in samples.items()}
    last = run.log("LayerContribution").at_stages[-1].values
    assert last == pytest.approx(expected, rel=1e-3)
    means = run.log("LayerContribution mean").at_stages[-1].values
    assert means["MLP"] == pytest.approx((expected["layer 0 MLP"] + expected["layer 1 MLP"]) / 2, rel=1e-3)


def _keep(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    return hook


@pytest.mark.parametrize("options", [{"samples": 0}, {"answer_tokens": 0}, {"batch_size": 0}])
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"LayerContribution.{next(iter(options))}"):
        LayerContribution(**options)
