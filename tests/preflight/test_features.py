"""Image tokens and image features, compared without weights."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lmmcl.data.batches.batch import Batch
from lmmcl.loading import Checkpoint
from lmmcl.preflight.features import check_features, count_features
from lmmcl.preflight.hollow import hollow
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import on_meta
from tests.data.processors import row, say, simple
from tests.toy import toy_task


def of_default(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[name]())
    return model


def test_tokens_equal_features_of_a_sound_checkpoint(tiny: Path) -> None:
    checkpoint = Checkpoint(str(tiny))
    model = on_meta(checkpoint)
    several = row("b", say("user", "IMAGE", "IMAGE", "Which?"), say("assistant", "3"))
    rows = [(toy_task("mine", 0), one) for one in (simple("a"), several)]
    found = list(check_features(model, Anatomy.of(model), checkpoint.processor(), rows))
    assert [one.level for one in found] == ["ok"]
    assert "48 image tokens" in found[0].text


def test_a_processor_of_another_patch_size_is_a_failure_with_both_numbers(tiny: Path) -> None:
    checkpoint = Checkpoint(str(tiny))
    model, processor = on_meta(checkpoint), checkpoint.processor()
    processor.patch_size = 24
    found = list(check_features(model, Anatomy.of(model), processor, [(toy_task("mine", 0), simple("a"))]))
    assert [(one.level, one.task) for one in found] == [("failure", "mine")]
    assert "4 tokens and 16 features" in found[0].text


def test_an_architecture_whose_features_cannot_be_computed_is_said_to_be_not_checked(tiny: Path) -> None:
    checkpoint = Checkpoint(str(tiny))
    model = of_default("mllama")
    found = list(
        check_features(model, Anatomy.of(model), checkpoint.processor(), [(toy_task("mine", 0), simple("a"))])
    )
    assert [one.level for one in found] == ["warning"]
    assert found[0].text.startswith("not checked: MllamaForConditionalGeneration")


def test_a_model_that_reads_grids_as_numbers_runs_hollow_and_is_as_it_was_behind() -> None:
    model = of_default("qwen2_5_vl")
    anatomy = Anatomy.of(model)
    grid = torch.tensor([[1, 8, 12]])
    inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long), "image_grid_thw": grid}
    batch = Batch({**inputs, "pixel_values": torch.zeros(96, 3 * 2 * 14 * 14)}, None)
    assert count_features(model, anatomy, batch) == 8 * 12 // 4
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_hollow_model_leaves_its_words_and_layers_without_memory() -> None:
    model = of_default("qwen2_5_vl")
    with hollow(model, Anatomy.of(model)):
        real = {name for name, parameter in model.named_parameters() if parameter.device.type == "cpu"}
    assert real
    assert all("visual" in name or "norm" in name for name in real)
