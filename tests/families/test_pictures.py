"""Pictures of every size and kind: as many picture tokens as features, or one error that names the row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from tests.data.processors import say
from tests.families.conftest import Kit

NOISE = Image.effect_noise((61, 37), 90)


def _exif(path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # lies on its side
    NOISE.convert("RGB").save(path, exif=tags)


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "1x1": ("png", lambda path: Image.new("RGB", (1, 1), (9, 99, 199)).save(path)),
    "3x1": ("png", lambda path: Image.new("RGB", (3, 1), (9, 99, 199)).save(path)),
    "1x999": ("png", lambda path: NOISE.resize((1, 999)).save(path)),
    "5000x20": ("png", lambda path: NOISE.resize((5000, 20)).save(path)),
    "20x2000": ("png", lambda path: NOISE.resize((20, 2000)).save(path)),
    "cmyk": ("jpg", lambda path: NOISE.convert("CMYK").save(path)),
    "16-bit": (
        "png",
        lambda path: Image.fromarray((np.arange(2257, dtype=np.uint16) * 29).reshape(37, 61)).save(path),
    ),
    "palette": ("png", lambda path: NOISE.convert("P").save(path, transparency=3)),
    "grey-alpha": ("png", lambda path: NOISE.convert("LA").save(path)),
    "animated": (
        "gif",
        lambda path: NOISE.save(path, save_all=True, append_images=[NOISE.rotate(90), NOISE.rotate(180)]),
    ),
    "exif": ("jpg", _exif),
}


def features(kit: Kit, batch: Batch) -> int:
    """How many features the model itself makes of a batch's pictures."""
    counts: list[int] = []
    inner = kit.model.model
    own = inner.get_image_features

    def counting(*arguments: Any, **options: Any) -> Any:
        made = own(*arguments, **options)
        found = getattr(made, "pooler_output", made)
        tensors = found if isinstance(found, list | tuple) else [found]
        counts.append(sum(tensor.numel() // tensor.shape[-1] for tensor in tensors))
        return made

    inner.get_image_features = counting
    try:
        with torch.no_grad():
            kit.model(**batch.inputs)
    finally:
        del inner.get_image_features
    return sum(counts)


def tokens(kit: Kit, batch: Batch) -> int:
    token = kit.processor.tokenizer.convert_tokens_to_ids(kit.family.image)
    return int((batch.inputs["input_ids"] == token).sum())


def asking(name: str, path: Path) -> Row:
    return Row(name, [say("user", "IMAGE", "Which one?"), say("assistant", "no")], (path,))


def refused(kit: Kit, kind: str) -> bool:
    """Whether the family's own processor takes no picture of this shape."""
    if kit.family.name.startswith("qwen"):
        return kind in ("1x999", "5000x20")
    return kit.family.name == "mistral3" and kind in ("1x999", "5000x20")


@pytest.mark.parametrize("kind", KINDS)
def test_picture_tokens_are_as_many_as_features_or_the_row_is_named(
    kit: Kit, kind: str, tmp_path: Path
) -> None:
    suffix, write = KINDS[kind]
    path = tmp_path / f"{kind}.{suffix}"
    write(path)
    row = asking(f"row-{kind}", path)
    # Qwen takes aspect ratios up to 200, Pixtral none whose resized side rounds to nothing.
    if refused(kit, kind):
        for rows in ([row], [kit.shapes[0]("good"), row]):
            with pytest.raises(
                UserError, match=f"row 'row-{kind}': the processor refused it .*: {kind.replace('x', '×')}"
            ):
                kit.collator.train(rows)
        return
    batch = kit.collator.train([row])
    assert tokens(kit, batch) == features(kit, batch) > 0


def test_picture_tokens_are_as_many_as_features_in_a_mixed_batch(kit: Kit) -> None:
    rows = [make(str(number), number) for number, make in enumerate(kit.shapes * 2)]
    batch = kit.collator.train(rows)
    assert tokens(kit, batch) == features(kit, batch) > 0


def test_a_batch_without_pictures_runs_the_vision_tower(kit: Kit) -> None:
    if len(kit.shapes) == 2:
        pytest.skip("the family takes no row without a picture")
    batch = kit.collator.train([kit.shapes[2]("none")])
    assert features(kit, batch) > 0
    assert features(kit, kit.collator.filler(kit.shapes[2]("none"))) > 0
