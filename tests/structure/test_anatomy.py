"""Anatomy: every parameter in one group, in every architecture that builds."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, LlavaOnevisionConfig, Qwen2Config
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

from lmmcl.errors import UserError
from lmmcl.structure.anatomy import GROUPS, Anatomy
from lmmcl.structure.landmarks import prefixes
from tests.architectures import anatomies, models


def qwen2_7b() -> nn.Module:
    text = Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        config = LlavaOnevisionConfig(text_config=text, tie_word_embeddings=False)
        model: nn.Module = AutoModelForImageTextToText.from_config(config)
    return model


def test_most_architectures_build_and_most_of_these_have_a_gated_mlp() -> None:
    gated = [
        name
        for name, anatomy in anatomies().items()
        if {"llm.mlp.gate", "llm.mlp.gate_up"} & anatomy.groups.keys()
    ]
    assert len(NAMES) >= 97
    assert len(anatomies()) >= 84
    assert len(gated) >= 60


def test_every_parameter_is_in_exactly_one_group_in_model_order() -> None:
    for name, anatomy in anatomies().items():
        names = [parameter for parameter, _ in models()[name].named_parameters()]
        claimed = Counter(parameter for group in anatomy.groups.values() for parameter in group)
        assert claimed == Counter(names), name
        assert list(anatomy.numel) == names
        order = {parameter: index for index, parameter in enumerate(names)}
        for group in anatomy.groups.values():
            assert group == sorted(group, key=lambda parameter: order[parameter])


def test_groups_are_the_documented_ones_and_none_is_empty() -> None:
    for anatomy in anatomies().values():
        assert set(anatomy.groups) <= set(GROUPS)
        assert all(anatomy.groups.values())


def test_every_language_model_has_layers_attention_an_mlp_norms_and_embeddings() -> None:
    for name, anatomy in anatomies().items():
        assert anatomy.decoder_layers, name
        for alternatives in (
            {"llm.attn.q", "llm.attn.qkv"},
            {"llm.attn.o"},
            {"llm.mlp.down"},
            {"llm.mlp.up", "llm.mlp.gate_up"},
            {"llm.norm"},
            {"llm.embed", "llm.embed+head"},
        ):
            assert alternatives & anatomy.groups.keys(), (name, alternatives)


def test_projections_of_the_decoder_lie_in_its_layers_and_nothing_outside_does() -> None:
    for anatomy in anatomies().values():
        for group, names in anatomy.groups.items():
            for name in names:
                if group.startswith(("llm.attn", "llm.cross_attn", "llm.mlp", "llm.mixer")):
                    assert anatomy.layer_of(name) is not None
                if group in {"vision", "projector", "llm.embed", "llm.head", "llm.embed+head"}:
                    assert anatomy.layer_of(name) is None


def test_layers_and_blocks_are_modules_and_no_two_overlap() -> None:
    for name, anatomy in anatomies().items():
        units = {*anatomy.decoder_layers, *anatomy.vision_blocks}
        assert len(units) == len(anatomy.decoder_layers) + len(anatomy.vision_blocks)
        for path in units:
            assert not isinstance(models()[name].get_submodule(path), nn.ModuleList)
            assert not units & {*list(prefixes(path))[1:]}


# Read by eye from the module trees of transformers 5.23.
BY_EYE = {
    "llava": {
        "model.vision_tower.encoder.layers.3.self_attn.q_proj.weight": "vision",
        "model.vision_tower.post_layernorm.bias": "vision",
        "model.multi_modal_projector.linear_1.bias": "projector",
        "model.language_model.layers.5.self_attn.o_proj.weight": "llm.attn.o",
        "model.language_model.layers.5.post_attention_layernorm.weight": "llm.norm",
        "model.language_model.norm.weight": "llm.norm",
        "model.language_model.embed_tokens.weight": "llm.embed",
        "lm_head.weight": "llm.head",
    },
    "llava_next": {"model.image_newline": "other"},
    "llava_onevision": {
        "model.image_newline": "other",
        "model.language_model.layers.0.self_attn.k_proj.bias": "llm.attn.k",
    },
    "video_llava": {"model.video_tower.embeddings.class_embedding": "vision"},
    "qwen2_vl": {
        "model.visual.merger.mlp.0.bias": "projector",
        "model.visual.patch_embed.proj.weight": "vision",
    },
    "qwen2_5_vl": {
        "model.visual.merger.ln_q.weight": "projector",
        "model.visual.blocks.0.mlp.gate_proj.weight": "vision",
        "model.visual.blocks.0.attn.qkv.bias": "vision",
        "model.language_model.layers.0.mlp.gate_proj.weight": "llm.mlp.gate",
    },
    "qwen3_vl": {
        "model.visual.deepstack_merger_list.1.norm.weight": "projector",
        "model.visual.pos_embed.weight": "vision",
        "model.language_model.layers.0.self_attn.q_norm.weight": "llm.norm",
    },
    "qwen3_vl_moe": {
        "model.language_model.layers.0.mlp.gate.weight": "other",
        "model.language_model.layers.0.mlp.experts.gate_up_proj": "llm.mlp.gate_up",
        "model.language_model.layers.0.mlp.experts.down_proj": "llm.mlp.down",
    },
    "qwen3_5_moe": {
        "model.language_model.layers.0.linear_attn.in_proj_qkv.weight": "llm.mixer",
        "model.language_model.layers.0.linear_attn.A_log": "llm.mixer",
        "model.language_model.layers.0.linear_attn.norm.weight": "llm.norm",
        "model.language_model.layers.3.self_attn.v_proj.weight": "llm.attn.v",
        "model.language_model.layers.0.mlp.shared_expert.gate_proj.weight": "llm.mlp.gate",
        "model.language_model.layers.0.mlp.shared_expert_gate.weight": "other",
    },
    "qwen2_5_omni_thinker": {"model.audio_tower.conv1.weight": "other"},
    "internvl": {
        "model.vision_tower.encoder.layer.0.lambda_1": "vision",
        "model.multi_modal_projector.layer_norm.weight": "projector",
        "model.language_model.embed_tokens.weight": "llm.embed+head",
    },
    "gemma3": {
        "model.vision_tower.head.probe": "vision",
        "model.multi_modal_projector.mm_input_projection_weight": "projector",
        "model.multi_modal_projector.mm_soft_emb_norm.weight": "projector",
        "model.language_model.layers.0.pre_feedforward_layernorm.weight": "llm.norm",
        "model.language_model.embed_tokens.weight": "llm.embed+head",
    },
    "gemma4": {
        "model.language_model.embed_tokens_per_layer.weight": "llm.embed",
        "model.language_model.layers.0.per_layer_projection.weight": "llm.extra",
        "model.language_model.per_layer_projection_norm.weight": "llm.norm",
    },
    "idefics": {
        "model.gated_cross_attn_layers.0.cross_attn.q_proj.weight": "llm.cross_attn.q",
        "model.gated_cross_attn_layers.0.mlp.down_proj.weight": "llm.mlp.down",
        "model.gated_cross_attn_layers.0.alpha_dense": "other",
    },
    "idefics3": {"model.connector.modality_projection.proj.weight": "projector"},
    "smolvlm": {"model.connector.modality_projection.proj.weight": "projector"},
    "paligemma": {"model.multi_modal_projector.linear.weight": "projector"},
    "mistral3": {"model.multi_modal_projector.patch_merger.merging_layer.weight": "projector"},
    "mllama": {
        "model.language_model.layers.3.cross_attn.k_norm.weight": "llm.norm",
        "model.language_model.layers.3.cross_attn.o_proj.weight": "llm.cross_attn.o",
        "model.language_model.layers.3.cross_attn_mlp_gate": "other",
        "model.language_model.layers.3.mlp.up_proj.weight": "llm.mlp.up",
        "model.vision_model.gated_positional_embedding.gate": "vision",
    },
    "llama4": {
        "language_model.model.layers.0.feed_forward.router.weight": "other",
        "language_model.model.layers.0.feed_forward.experts.gate_up_proj": "llm.mlp.gate_up",
        "language_model.model.layers.0.feed_forward.shared_expert.up_proj.weight": "llm.mlp.up",
        "vision_model.vision_adapter.mlp.fc1.weight": "vision",
        "language_model.lm_head.weight": "llm.head",
    },
    "florence2": {
        "model.language_model.decoder.layers.0.encoder_attn.q_proj.bias": "llm.cross_attn.q",
        "model.language_model.encoder.layers.0.self_attn.out_proj.weight": "llm.attn.o",
        "model.language_model.encoder.layers.0.fc1.weight": "llm.mlp.up",
        "model.language_model.encoder.embed_positions.weight": "other",
        "model.language_model.shared.weight": "llm.embed+head",
    },
    "kosmos-2": {
        "image_to_text_projection.latent_query": "projector",
        "text_model.model.layers.0.self_attn.inner_attn_ln.weight": "llm.norm",
        "text_model.model.layers.0.ffn.fc2.weight": "llm.mlp.down",
    },
    "blip-2": {
        "query_tokens": "projector",
        "qformer.encoder.layer.0.crossattention.attention.key.weight": "projector",
        "language_projection.weight": "projector",
        "language_model.model.decoder.embed_positions.weight": "other",
        "language_model.model.decoder.layers.0.self_attn.k_proj.weight": "llm.attn.k",
    },
    "aria": {
        "model.language_model.layers.0.mlp.router.weight": "other",
        "model.multi_modal_projector.cross_attn.multihead_attn.in_proj_weight": "projector",
    },
    "deepseek_vl_hybrid": {
        "model.high_res_vision_model.vision_encoder.pos_embed": "vision",
        "model.aligner.proj.weight": "projector",
        "model.high_res_vision_alpha": "other",
    },
    "glm4v": {
        "model.visual.merger.gate_proj.weight": "projector",
        "model.visual.downsample.weight": "vision",
        "model.language_model.layers.0.mlp.gate_up_proj.weight": "llm.mlp.gate_up",
    },
    "janus": {
        "model.aligner.fc1.weight": "projector",
        "model.generation_aligner.fc1.weight": "other",
        "model.vqmodel.quantize.embedding.weight": "other",
    },
    "fuyu": {
        "model.vision_embed_tokens.weight": "projector",
        "model.language_model.layers.0.self_attn.query_key_value.bias": "llm.attn.qkv",
        "model.language_model.layers.0.self_attn.dense.weight": "llm.attn.o",
        "model.language_model.layers.0.mlp.dense_h_to_4h.weight": "llm.mlp.up",
    },
    "kimi_k25": {
        "model.language_model.layers.1.self_attn.q_a_proj.weight": "llm.attn.q",
        "model.language_model.layers.1.self_attn.kv_a_proj_with_mqa.weight": "llm.attn.kv",
        "model.language_model.layers.1.self_attn.kv_a_layernorm.weight": "llm.norm",
    },
    "lfm3_vl": {
        "model.language_model.layers.0.conv.in_proj.weight": "llm.mixer",
        "model.language_model.layers.0.feed_forward.w1.weight": "llm.mlp.gate",
        "model.language_model.layers.0.feed_forward.w2.weight": "llm.mlp.down",
        "model.language_model.layers.0.feed_forward.w3.weight": "llm.mlp.up",
    },
    "muse_glimmer": {
        "model.language_model.layers.0.self_attn.gate_proj.weight": "llm.attn.gate",
        "model.language_model.embed_tokens.weight": "llm.embed",
    },
    "blip": {
        "text_decoder.bert.encoder.layer.0.attention.output.dense.weight": "llm.attn.o",
        "text_decoder.bert.encoder.layer.0.crossattention.self.value.weight": "llm.cross_attn.v",
        "text_decoder.bert.encoder.layer.0.output.dense.weight": "llm.mlp.down",
        "text_decoder.bert.encoder.layer.0.output.LayerNorm.weight": "llm.norm",
    },
    "pi0": {"model.dit.layers.0.self_attn.q_proj.weight": "other", "action_out_proj.weight": "other"},
}


@pytest.mark.parametrize("architecture", BY_EYE)
def test_assignments_that_were_read_by_eye(architecture: str) -> None:
    anatomy = anatomies()[architecture]
    assert {name: anatomy.group_of(name) for name in BY_EYE[architecture]} == BY_EYE[architecture]


def test_counts_of_qwen2_7b_are_those_of_the_arithmetic() -> None:
    hidden, inner, layers, kv, words = 3584, 18944, 28, 4 * 128, 152064
    anatomy = Anatomy.of(qwen2_7b())
    counts = {group: sum(anatomy.numel[name] for name in names) for group, names in anatomy.groups.items()}
    assert {group: count for group, count in counts.items() if group.startswith("llm.")} == {
        "llm.embed": words * hidden,
        "llm.head": words * hidden,
        "llm.attn.q": layers * (hidden * hidden + hidden),
        "llm.attn.k": layers * (hidden * kv + kv),
        "llm.attn.v": layers * (hidden * kv + kv),
        "llm.attn.o": layers * hidden * hidden,
        "llm.mlp.gate": layers * hidden * inner,
        "llm.mlp.up": layers * hidden * inner,
        "llm.mlp.down": layers * hidden * inner,
        "llm.norm": (2 * layers + 1) * hidden,
    }
    assert len(anatomy.decoder_layers) == layers
    assert anatomy.layer_of("model.language_model.layers.27.mlp.up_proj.weight") == 27


def test_woven_layers_have_the_depth_at_which_they_run() -> None:
    anatomy = anatomies()["idefics"]
    assert anatomy.layer_of("model.gated_cross_attn_layers.7.mlp.up_proj.weight") == 7
    assert anatomy.layer_of("model.layers.7.mlp.up_proj.weight") == 7


def test_layers_of_an_encoder_come_before_those_of_its_decoder() -> None:
    anatomy = anatomies()["t5gemma2"]
    assert anatomy.layer_of("model.encoder.text_model.layers.25.mlp.up_proj.weight") == 25
    assert anatomy.layer_of("model.decoder.layers.0.mlp.up_proj.weight") == 26


def test_the_inner_model_without_wrapper_and_head_reads_the_same() -> None:
    whole = qwen2_7b()
    inner = whole.get_submodule("model")
    expected = {
        group: [name.removeprefix("model.") for name in names]
        for group, names in Anatomy.of(whole).groups.items()
    }
    del expected["llm.head"]
    assert Anatomy.of(inner).groups == expected


def test_a_loaded_model_reads_as_its_shape_on_the_meta_device(tiny: Path) -> None:
    loaded = AutoModelForImageTextToText.from_pretrained(tiny)
    with torch.device("meta"):
        shape = AutoModelForImageTextToText.from_config(loaded.config)
    assert Anatomy.of(loaded) == Anatomy.of(shape)


def test_experts_in_a_list_are_read_as_stacked_ones_are() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(8, 2, bias=False)
            parts = {"gate_proj": nn.Linear(8, 4), "up_proj": nn.Linear(8, 4), "down_proj": nn.Linear(4, 8)}
            self.experts = nn.ModuleList([nn.ModuleDict(parts) for _ in range(2)])

    model = qwen2_7b()
    model.get_submodule("model.language_model.layers.3").mlp = Experts()
    anatomy = Anatomy.of(model)
    path = "model.language_model.layers.3.mlp"
    assert anatomy.group_of(f"{path}.gate.weight") == "other"
    assert anatomy.group_of(f"{path}.experts.0.gate_proj.weight") == "llm.mlp.gate"
    assert anatomy.group_of(f"{path}.experts.0.down_proj.bias") == "llm.mlp.down"


def test_a_parameter_that_no_rule_claims_is_an_error_with_its_name() -> None:
    model = qwen2_7b()
    model.get_submodule("model.language_model.layers.3.self_attn").strange = nn.Linear(4, 4, device="meta")
    with pytest.raises(
        UserError, match=r"no rule claims model\.language_model\.layers\.3\.self_attn\.strange\.weight"
    ):
        Anatomy.of(model)


def test_a_module_without_token_embeddings_is_an_error() -> None:
    with pytest.raises(
        UserError, match=r"^model\.path: a model must have token embeddings, and Linear names none"
    ):
        Anatomy.of(nn.Linear(2, 2))
