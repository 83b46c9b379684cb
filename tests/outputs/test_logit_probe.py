"""The logit transform is measured on the model, since configs do not tell."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PaliGemmaConfig

from lmmcl.errors import UserError
from lmmcl.outputs.logit_probe import LogitTransform, measure_logit_transform
from tests.architectures import models

# Architectures of transformers 5.23 whose default config changes the product: read by eye from their forward.
SCALED_OR_CAPPED = {
    "granite_docling": (0.25, None),
    "inkling2": (1.0, 30.0),
    "mistral_large4": (1.0, 30.0),
    "muse_glimmer": (26**-0.5, 20.0),
    "muse_spark": (32**-0.5, 20.0),
}
# It has no output embedding; its embedding is applied in the same forward as its layers.
OUT_OF_REACH = {"pi0", "pix2struct"}


@pytest.mark.parametrize("architecture", SCALED_OR_CAPPED)
def test_a_factor_and_a_cap_are_those_of_the_forward(architecture: str) -> None:
    scale, cap = SCALED_OR_CAPPED[architecture]
    found = measure_logit_transform(models()[architecture])
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.cap == cap


def test_every_other_architecture_leaves_the_product_alone() -> None:
    for name, model in models().items():
        if name not in OUT_OF_REACH | SCALED_OR_CAPPED.keys():
            found = measure_logit_transform(model)
            assert (found.scale, found.cap) == (1.0, None), name


def test_a_scale_that_the_forward_never_applies_is_not_believed() -> None:
    model = models()["cohere2_vision"]
    assert model.config.text_config.logit_scale != 1  # type: ignore[union-attr]
    assert measure_logit_transform(model).scale == 1


def test_a_cap_in_the_config_is_found_and_the_model_is_left_as_it_was() -> None:
    config = PaliGemmaConfig()
    text: Any = config.text_config
    text.final_logit_softcapping = 7.0
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert measure_logit_transform(model).cap == 7.0
    assert not any("forward" in vars(part) for part in model.modules())


def test_padding_of_the_embedding_is_no_word() -> None:
    model = models()["inkling2"]
    found = measure_logit_transform(model)
    assert found.words == model.config.text_config.unpadded_vocab_size  # type: ignore[union-attr]
    assert found(torch.zeros(2, found.words + 5)).shape == (2, found.words)


def test_the_transform_is_the_formula() -> None:
    product = torch.linspace(-9, 9, 7)
    assert torch.equal(LogitTransform(1.0, None, 7)(product), product)
    assert torch.equal(LogitTransform(0.5, None, 7)(product), product * 0.5)
    assert torch.equal(LogitTransform(2.0, 3.0, 7)(product), torch.tanh(product * 2.0 / 3.0) * 3.0)


@pytest.mark.parametrize("architecture", sorted(OUT_OF_REACH))
def test_a_forward_that_cannot_be_followed_is_an_error(architecture: str) -> None:
    with pytest.raises(UserError, match=r"^model\.path: a model must (have|apply) (an|its) output embedding"):
        measure_logit_transform(models()[architecture])


def test_a_forward_that_does_something_else_is_an_error() -> None:
    model = models()["llava"]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    hook = model.register_forward_hook(lambda _, __, output: type(output)(logits=output.logits + 1))
    try:
        with pytest.raises(
            UserError, match="scaled or softly capped; LlavaForConditionalGeneration does something"
        ):
            measure_logit_transform(model)
    finally:
        hook.remove()
    assert "forward" not in vars(head)
