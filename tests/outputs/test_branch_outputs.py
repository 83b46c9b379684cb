"""What attention and MLP add to the residual is what the residual gains."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from lmmcl.data.batches.batch import IGNORED
from lmmcl.outputs.branch_outputs import BranchOutputs
from lmmcl.structure.anatomy import Anatomy

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "pad_token_id": 0,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llava": {"text_config": {"model_type": "llama", **SMALL}, "image_token_index": 63},
    "gemma3": {"text_config": SMALL, "image_token_id": 63, "boi_token_index": 61, "eoi_token_index": 62},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_branches_of_a_layer_add_up_to_what_the_layer_adds(family: str) -> None:
    """Also where a norm stands between a branch and the sum (Gemma 3)."""
    config = AutoConfig.for_model(family, **FAMILIES[family], vision_config=VISION)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    anatomy = Anatomy.of(model)
    watch, gained = BranchOutputs(model, anatomy), list[torch.Tensor]()

    def gain(layer: Any, arguments: Any, named: Any, output: Any) -> None:
        before = arguments[0] if arguments else named["hidden_states"]
        gained.append((output[0] if isinstance(output, tuple) else output) - before)

    handles = [
        model.get_submodule(path).register_forward_hook(gain, with_kwargs=True)
        for path in anatomy.decoder_layers
    ]
    ids = torch.randint(1, 60, (2, 7))
    labels = ids.where(torch.rand(2, 7) < 0.5, IGNORED)
    with torch.no_grad(), watch.watching():
        watch.at(labels)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
        found = watch.take()
    assert watch.names == [f"layer {i} {kind}" for i in range(3) for kind in ("attention", "MLP")]
    positions = labels[:, 1:] != IGNORED
    for i, whole in enumerate(gained):
        torch.testing.assert_close(
            found[2 * i] + found[2 * i + 1], whole[:, :-1][positions], rtol=1e-4, atol=1e-5
        )
    for handle in handles:
        handle.remove()
    count = sum(len(module._forward_hooks) for module in model.modules())
    assert count == 0, "no hook stays behind"


def test_a_forward_that_never_ran_is_said() -> None:
    config = AutoConfig.for_model("llava", **FAMILIES["llava"], vision_config=VISION)
    model = AutoModelForImageTextToText.from_config(config)
    watch = BranchOutputs(model, Anatomy.of(model))
    with pytest.raises(RuntimeError, match="layer 0 attention did not run"):
        watch.take()
