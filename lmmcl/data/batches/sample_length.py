"""How many tokens a training sample has with its pictures, known before the processor makes it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmmcl.data.batches.collate import FILLER_ID, Collator
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.quirks import enlarged

Sizes = tuple[tuple[int, int], ...]
"""Width and height of the pictures of a sample."""

_PROBE: Sizes = ((64, 64),)


def with_open_pictures(row: Row) -> Row:
    """The row with its pictures in memory, which are then read once whatever is asked of them.

    Raises:
        UserError: a picture cannot be read.
    """
    return replace(row, images=tuple(open_picture(image, f"row {row.id!r}") for image in row.images))


class SampleLengths:
    """Counts the tokens of training samples: text to the token, pictures by their sizes.

    Where the processor tells the tokens of a picture by its size, it is asked; else it is given a grey one of each new
    size, once. A count follows from the row alone, whoever asks and in whatever order.

    Args:
        collator: makes the samples.
    """

    def __init__(self, collator: Collator) -> None:
        self._collator = collator
        self._added: dict[Sizes, int] = {}

    def of(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row, whose pictures are best in memory.

        Raises:
            UserError: a row has an empty answer, or a picture that cannot be read.
        """
        rendered = self._collator.template.conversations(rows)
        return [len(one.ids) + self._pictures(row) for row, one in zip(rows, rendered, strict=True)]

    def _pictures(self, row: Row) -> int:
        """Tokens that pictures add to a text, which has one for each already."""
        opened = with_open_pictures(row).images
        sizes = tuple(
            enlarged(picture, self._collator.processor).size
            for picture in opened
            if isinstance(picture, Image.Image)
        )
        if sizes not in self._added:
            try:
                self._added[sizes] = self._told(sizes) if sizes else 0
            except UserError:
                return 0  # the collator refuses the row, too, and names it
        return self._added[sizes]

    def _told(self, sizes: Sizes) -> int:
        count = self._count(sizes)
        if count is None or (len(sizes) > 1 and not self._adds_up):
            return self._measured(sizes)
        return count + self._margin * len(sizes)

    @cached_property
    def _margin(self) -> int:
        """What a picture adds beside what the processor counts: markers, and minus the sign in the text."""
        return self._measured(_PROBE) - (self._count(_PROBE) or 0)

    @cached_property
    def _adds_up(self) -> bool:
        """Whether several pictures count as each of them alone; LLaVA-OneVision cuts a lone one into tiles."""
        return self._measured(_PROBE * 2) == 2 * self._measured(_PROBE)

    def _count(self, sizes: Sizes) -> int | None:
        """The processor's own count, where it has one."""
        try:
            counted: Mapping[str, Any] = self._collator.processor._get_num_multimodal_tokens(
                image_sizes=[[height, width] for width, height in sizes]
            )
            return int(sum(counted["num_image_tokens"]))
        except (AttributeError, NotImplementedError, KeyError, TypeError, ValueError):
            return None

    @cached_property
    def _bare(self) -> Collator:
        """Refuses no length and adds no filler."""
        return Collator(self._collator.processor, None, always_image=False)

    def _measured(self, sizes: Sizes) -> int:
        pictures = tuple(Image.new("RGB", size, (128, 128, 128)) for size in sizes)
        dot = {"type": "text", "text": "."}
        asked = {"role": "user", "content": [*({"type": "image"} for _ in sizes), dot]}
        row = Row(FILLER_ID, [asked, {"role": "assistant", "content": [dot]}], pictures)
        tokens = int(self._bare.train([row]).mask().sum())
        return tokens - len(self._bare.template.conversations([row])[0].ids)
