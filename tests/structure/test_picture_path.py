"""Where the picture's path can be recorded and given again, in every architecture."""

from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import Point, Recording
from lmmcl.structure.recipe import Recipe
from tests.architectures import anatomies, models

TOWER = Point("model.vision_tower", "forward")


def path_of(name: str) -> PicturePath:
    return PicturePath(models()[name], anatomies()[name])


def test_every_architecture_with_a_tower_has_a_point_where_nothing_changes() -> None:
    with_a_tower = {name: anatomy for name, anatomy in anatomies().items() if anatomy.vision_blocks}
    assert len(with_a_tower) >= 70
    for name, anatomy in with_a_tower.items():
        path, model = path_of(name), models()[name]
        points = path.points(())
        assert points, name
        assert all(callable(getattr(model.get_submodule(point.path), point.method)) for point in points), name
        language = [n for n in anatomy.numel if anatomy.group_of(n).startswith("llm.")]
        assert path.points(language) == points, name
        assert not path.parameters().keys() & set(language), name


def test_where_the_projector_trains_the_tower_is_left() -> None:
    projector = Recipe.parse("projector").resolve(anatomies()["llava"])
    assert path_of("llava").points(projector) == [TOWER]
    assert path_of("llava").points(()) == [*(Point(p, "get_image_features") for p in ("", "model")), TOWER]


def test_a_tower_that_holds_what_changes_is_no_point() -> None:
    merger = Recipe.parse("projector").resolve(anatomies()["qwen2_5_vl"])
    assert path_of("qwen2_5_vl").points(merger) == []
    assert path_of("llava").points([anatomies()["llava"].vision[0]]) == []


@pytest.mark.parametrize(("name", "otherwise"), [("llava", False), ("qwen2_5_vl", False), ("blip-2", True)])
def test_dropout_on_the_path_is_seen(name: str, otherwise: bool) -> None:
    assert path_of(name).trains_otherwise() is otherwise


def test_of_points_in_each_other_the_outer_ones_output_is_kept() -> None:
    path = path_of("llava")
    model: Any = models()["llava"]
    pixels = torch.zeros(1, 3, 336, 336, device="meta")
    with torch.no_grad(), path.recording(path.points(())) as recording:
        model.model.get_image_features(pixels)
    assert [point for point, _ in recording.calls] == [Point("model", "get_image_features")]
    kept = recording.calls[0][1]
    assert kept.pooler_output[0].shape == (576, 4096)
    assert kept.last_hidden_state is None  # the tower's inner states are most of it, and nobody reads them
    assert "get_image_features" not in vars(model.model)
    with path.replaying(recording):
        again = model.model.get_image_features(pixels)
    assert again.pooler_output is kept.pooler_output
    assert again is not kept


def test_words_that_the_path_looks_up_are_told() -> None:
    model: Any = models()["llava"]
    path, embed = path_of("llava"), model.get_input_embeddings()
    tower = model.get_submodule("model.vision_tower")
    ids = torch.zeros(1, dtype=torch.long, device="meta")
    handle = tower.register_forward_pre_hook(lambda module, arguments: (embed(ids), None)[1])
    with torch.no_grad(), path.recording(path.points(())) as recording:
        model.model.get_image_features(torch.zeros(1, 3, 336, 336, device="meta"))
    handle.remove()
    assert recording.words == {"model.language_model.embed_tokens.weight"}


def test_another_way_through_the_model_is_an_error_where_the_pixels_are_gone() -> None:
    path = path_of("llava")
    model: Any = models()["llava"]
    output = BaseModelOutputWithPooling(pooler_output=torch.zeros(1))
    other = Recording([(Point("", "get_image_features"), output), (TOWER, output)])
    with path.replaying(other, strict=True):
        model.get_image_features(None)
        with pytest.raises(RuntimeError, match="was recorded"):
            model.get_image_features(None)
