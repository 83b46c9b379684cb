"""Pictures that are asked for twice, for their sizes and for the model: read once while memory for them lasts."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import ImageSource, Row

HELD_BYTES = 1 << 28
"""Bytes of decoded pictures that are held at once; further ones are let go, and read again when they are needed."""


def holding_pictures(rows: Sequence[Row]) -> list[Row]:
    """The rows, each picture of which stays in memory once it was read, but not all of them where they are large.

    Args:
        rows: of one optimizer step: their number says nothing about the size of their pictures.
    """
    left = [HELD_BYTES]
    return [
        replace(row, images=tuple(_held(image, f"row {row.id!r}", left) for image in row.images))
        for row in rows
    ]


def _held(source: ImageSource, where: str, left: list[int]) -> ImageSource:
    if isinstance(source, Image.Image):
        return source
    kept: list[Image.Image] = []

    def opened() -> Image.Image:
        if kept:
            return kept[0]
        picture = open_picture(source, where)
        size = 3 * picture.width * picture.height
        if size <= left[0]:
            left[0] -= size
            kept.append(picture)
        return picture

    return opened
