"""From the second measurement on no picture is opened and no tower runs, and the answers are the same."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.pictures import picture
from lmmcl.data.pictures.picture import PictureFile
from lmmcl.data.row import Row
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.kept_batch import KeptBatch
from lmmcl.evaluation.kept_features import KeptFeatures
from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import Anatomy
from tests.toy import ToySource


class Stage:
    """Two batches of rows with picture files, a model, and how often its tower ran."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, attn_implementation="eager"
        ).eval()
        self.anatomy = Anatomy.of(self.model)
        self.processor = Checkpoint(str(checkpoint)).processor()
        self.collator = Collator(self.processor, None)
        self.folder = folder
        rows = []
        for row in list(ToySource(0, text=True).split("test"))[:6]:
            files = [folder / f"{row.id}.png" for _ in row.images]
            for file, image in zip(files, row.images, strict=True):
                assert isinstance(image, Image.Image)
                image.save(file)
            rows.append(Row(row.id, row.messages, [PictureFile(file, "rows") for file in files]))
        self.batches: list[list[Row]] = [rows[:4], rows[4:]]
        self.passes = 0
        self.model.get_submodule(self.anatomy.vision_blocks[-1]).register_forward_hook(self._count)

    def _count(self, *arguments: Any) -> None:
        self.passes += 1

    def keeping(self, **settings: Any) -> KeptFeatures:
        store = FeatureFolder(self.folder / "features", 1 << 30)
        return KeptFeatures(store, self.model, self.anatomy, self.processor, settings)

    def plain(self) -> list[list[str]]:
        with torch.no_grad():
            return [self._answers(self.collator.prompts(rows)) for rows in self.batches]

    def _answers(self, batch: Batch) -> list[str]:
        return generate(self.model, self.processor, batch, 4)

    def asked(self, features: KeptFeatures, keep: bool = True) -> tuple[list[list[str]], int, int]:
        """Answers, batches that were found, and passes of the tower."""
        self.passes = 0
        with torch.no_grad():
            features.begin(keep)
            prompts = [features.prompts(self.collator.prompts, rows) for rows in self.batches]
            said = [features.answers(one, 4) for one in prompts]
        return said, sum(isinstance(one.found, KeptBatch) for one in prompts), self.passes


@pytest.fixture
def stage(tiny: Path, tmp_path: Path) -> Stage:
    return Stage(tiny, tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that are decoded."""
    found: list[Path] = []
    decode = picture.decode

    def watched(stream: Any, what: str, where: str) -> Image.Image:
        found.append(stream)
        return decode(stream, what, where)

    monkeypatch.setattr(picture, "decode", watched)
    return found


@pytest.mark.parametrize("bf16", [False, True])
def test_a_later_measurement_opens_no_picture_runs_no_tower_and_says_the_same(
    stage: Stage, opened: list[Path], bf16: bool
) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        plain = stage.plain()
        features = stage.keeping(precision=bf16)
        assert stage.asked(features) == (plain, 0, 2)
        opened.clear()
        assert stage.asked(features) == (plain, 2, 0)
        assert stage.asked(stage.keeping(precision=bf16)) == (plain, 2, 0)  # another process
        assert not opened
        assert stage.asked(stage.keeping(precision=not bf16))[1] == 0


def test_a_kept_batch_is_the_processors_own_but_for_the_pixels(stage: Stage) -> None:
    features = stage.keeping()
    stage.asked(features)
    for rows in stage.batches:
        found = features.prompts(stage.collator.prompts, rows).found
        assert isinstance(found, KeptBatch)
        batch, _ = found.on(torch.device("cpu"), [row.id for row in rows])
        made = stage.collator.prompts(rows)
        assert list(batch.inputs) == list(made.inputs)
        assert batch.ids == made.ids
        for key, value in made.inputs.items():
            same = batch.inputs[key]
            assert (same.shape, same.dtype) == (value.shape, value.dtype)
            assert torch.equal(same, value) or key == "pixel_values"


def test_the_language_model_may_change(stage: Stage) -> None:
    features = stage.keeping()
    first = stage.asked(features)[0]
    with torch.no_grad():
        stage.model.lm_head.weight.neg_()
        plain = stage.plain()
    assert plain != first
    assert stage.asked(features) == (plain, 2, 0)


def _one_weight(stage: Stage) -> None:
    weight = dict(stage.model.named_parameters())[stage.anatomy.vision[5]]
    weight.view(-1)[0] += 1e-3


def _projector(stage: Stage) -> None:
    dict(stage.model.named_parameters())[stage.anatomy.projector[0]].view(-1)[3] += 1e-3


def _buffer(stage: Stage) -> None:
    stage.model.get_submodule("model.vision_tower").register_buffer("statistics", torch.ones(3))


def _picture(stage: Stage) -> None:
    """Other pixels under the same names, a nanosecond later."""
    for rows in stage.batches:
        file = next(row.images[0] for row in rows if row.images)
        assert isinstance(file, PictureFile)
        before = os.stat(file.path)
        with Image.open(file.path) as old:
            shifted = old.convert("RGB").point(lambda value: (value + 3) % 256)
        shifted.save(file.path)
        os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [_one_weight, _projector, _buffer, _picture])
def test_features_are_never_stale(stage: Stage, change: Callable[[Stage], None]) -> None:
    features = stage.keeping()
    stage.asked(features)
    with torch.no_grad():
        change(stage)
        plain = stage.plain()
    assert stage.asked(features) == (plain, 0, 2)
    assert stage.asked(features) == (plain, 2, 0)


def test_pictures_that_change_while_they_are_read_are_not_kept(stage: Stage) -> None:
    features, rows = stage.keeping(), next(rows for rows in stage.batches if any(row.images for row in rows))
    features.begin()

    def changing(rows: Sequence[Row]) -> Batch:
        _picture(stage)
        return stage.collator.prompts(rows)

    assert features.prompts(changing, rows).key == ""
    assert features.prompts(stage.collator.prompts, rows).key


def test_two_pictures_of_a_row_are_told_apart_by_their_order(stage: Stage) -> None:
    first = next(row for rows in stage.batches for row in rows if row.images)
    other = stage.folder / "other.png"
    Image.new("RGB", (40, 40), "blue").save(other)
    asked = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "which"}, {"type": "image"}],
    }
    pictures = [first.images[0], PictureFile(other, "rows")]
    two, swapped = (Row("r", [asked, first.messages[-1]], order) for order in (pictures, pictures[::-1]))
    features = stage.keeping()
    stage.batches = [[two], [swapped]]
    assert stage.asked(features) == (stage.plain(), 0, 2)
    stage.batches = [[swapped], [two]]
    assert stage.asked(features) == (stage.plain(), 2, 0)


def test_inference_mode_is_as_good_as_no_gradient(stage: Stage) -> None:
    with torch.inference_mode():
        plain, features = stage.plain(), stage.keeping()
        assert [stage.asked(features) for _ in range(2)] == [(plain, 0, 2), (plain, 2, 0)]


def test_adapters_on_the_path_keep_nothing_and_it_is_said(stage: Stage) -> None:
    tower = stage.model.get_submodule("model.vision_tower")
    tower.encoder.layers[0].mlp.lora_A = nn.Parameter(torch.ones(1))
    with pytest.warns(UserWarning, match="adapters in vision tower"):
        features = stage.keeping()
    assert [stage.asked(features)[1:] for _ in range(2)] == [(0, 2), (0, 2)]


def test_other_rows_in_a_batch_have_features_of_their_own(stage: Stage) -> None:
    features = stage.keeping()
    stage.asked(features)
    stage.batches = [list(reversed(rows)) for rows in stage.batches]
    assert stage.asked(features) == (stage.plain(), 0, 2)


def test_what_nobody_will_look_for_is_not_written(stage: Stage) -> None:
    features = stage.keeping()
    assert stage.asked(features, keep=False) == (stage.plain(), 0, 2)
    assert not (stage.folder / "features").exists()


def test_a_damaged_file_is_computed_again(stage: Stage) -> None:
    stage.asked(stage.keeping())
    file = min((stage.folder / "features").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        assert stage.asked(stage.keeping()) == (stage.plain(), 1, 1)
    assert stage.asked(stage.keeping()) == (stage.plain(), 2, 0)


class _Peeks(nn.Module):
    """Adds the mean of the pixels to the word embeddings: a model that looks at pictures beside its tower."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.mean = torch.zeros(())

    @override
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.embed(ids) + self.mean
        return found


def test_a_model_that_looks_at_pixels_elsewhere_keeps_nothing_and_says_so(stage: Stage) -> None:
    peeks = _Peeks(stage.model.get_input_embeddings())
    features = stage.keeping()
    stage.model.model.language_model.embed_tokens = peeks

    def look(module: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        if named.get("pixel_values") is not None:
            peeks.mean = 3 * named["pixel_values"].mean()

    generated = stage.model.generate

    def generate_looking(*arguments: Any, **named: Any) -> Any:
        look(stage.model, arguments, named)
        return generated(*arguments, **named)

    stage.model.generate = generate_looking
    plain = stage.plain()
    with pytest.warns(UserWarning, match="LlavaForConditionalGeneration keeps no features"):
        assert stage.asked(features)[0] == plain
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stage.asked(features) == (plain, 0, 2)


def test_a_path_that_looks_up_words_is_kept_once_its_key_holds_them(stage: Stage) -> None:
    embed, ids = stage.model.get_input_embeddings(), torch.zeros(1, dtype=torch.long)
    stage.model.get_submodule("model.vision_tower").register_forward_pre_hook(
        lambda module, arguments: (embed(ids), None)[1]
    )
    plain, features = stage.plain(), stage.keeping()
    found: Sequence[int] = [stage.asked(features)[1] for _ in range(3)]
    assert found == [0, 0, 2]
    with torch.no_grad():
        embed.weight[0] += 0.1
    assert stage.asked(features) == (stage.plain(), 0, 2)
    assert plain
