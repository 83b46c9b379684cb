"""Turns rows into batches with any Hugging Face processor and its chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from lmmcl.data.batches.apart import RowPictures, laid_together
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data.batches.joined import JOINED
from lmmcl.data.batches.mask import align
from lmmcl.data.batches.template import ChatTemplate, Rendered
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.quirks import enlarged

OnTooLong = Literal["error", "drop"]

FILLER_ID = ""
"""Id of a sample that stands in a batch only to run the model; it has no labels and belongs to no row."""

FORWARD_REFUSALS = (ValueError, TypeError, KeyError, IndexError, StopIteration, RuntimeError)
"""What processors raise when a row does not suit them."""


_SIGNS = (
    ("picture", "image_token"),
    ("picture", "boi_token"),
    ("video", "video_token"),
    ("sound", "audio_token"),
)
"""By which attribute a processor tells its signs, which stand in a text for what the model sees or hears there."""


class Collator:
    """Makes training batches and prompts.

    A training batch is labelled by one rule: the tokens of every assistant answer and of its end of turn,
    nothing else. `ChatTemplate` proves it for every conversation; here the proven tokens are found again
    among those of the processor, which has expanded the pictures.

    Args:
        processor: the checkpoint's processor, with a fast tokenizer and a chat template.
        max_length: most tokens of a sample, pictures included, from 1; None: any number.
        on_too_long: ``error`` refuses a longer training sample, ``drop`` leaves it out (the loader counts
            it). It is never truncated, which would cut through picture tokens. A longer prompt is always
            refused: a score must count every sample.
        always_image: add one unlabelled sample with a grey picture to a training batch without pictures, so
            that the vision tower runs on every process: those that train or shard it wait for each other.

    Raises:
        UserError: the processor has no chat template or no fast tokenizer.
    """

    def __init__(
        self,
        processor: Any,
        max_length: int | None,
        on_too_long: OnTooLong = "error",
        always_image: bool = True,
    ) -> None:
        self.template = ChatTemplate(processor)
        self.processor = processor
        if processor.tokenizer.pad_token is None:  # Llama 3; it stands behind the attention mask only
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self._signs = {
            sign: kind
            for kind, name in _SIGNS
            if isinstance(sign := getattr(processor, name, None), str) and sign
        }
        self.max_length = max_length
        self.on_too_long = on_too_long
        self.always_image = always_image
        self._filler: dict[str, Any] | None = None

    def train(self, rows: Sequence[Row], apart: bool = False) -> Batch:
        """Labelled, right-padded samples.

        Args:
            rows: at least one.
            apart: the processor makes them one by one, and the batch knows the pictures of each.

        Returns:
            A batch of all rows, but for those that ``on_too_long="drop"`` leaves out; a filler if none
            remains. With ``always_image`` the last sample may be a filler; ``ids`` tells.

        Raises:
            UserError: a row is malformed or too long, has an empty answer or an unreadable picture.
        """
        rows = list(rows)
        _check_pictures(rows, self._signs)
        rendered = self.template.conversations(rows)
        if self.always_image and not any(row.images for row in rows):
            rows.append(dummy(rows[0]))
            rendered.append(replace(self.template.conversations(rows[-1:])[0], learned=()))
        inputs, pictures = self._made(rows, rendered, apart)
        fits = self._fits(rows, inputs["attention_mask"], self.on_too_long == "drop")
        if not all(fits):
            kept = [row for row, fit in zip(rows, fits, strict=True) if fit and row.id != FILLER_ID]
            return self.train(kept, apart) if kept else self.filler(rows[0], apart)
        labels = _labels(rows, rendered, inputs)
        return Batch(inputs, labels, _ids(rows), extras=_extras(rows), pictures=pictures)

    def prompts(self, rows: Sequence[Row]) -> Batch:
        """Left-padded prompts that end with the generation prompt.

        Args:
            rows: a last assistant turn is left out; no rows give one filler prompt with a picture.

        Returns:
            A batch without labels.

        Raises:
            UserError: a row is malformed, has a picture that cannot be read, or does not fit.
        """
        rows = list(rows) or [dummy(None)]
        _check_pictures(rows, self._signs)
        inputs = self._process(rows, self.template.prompts(rows), "left")
        self._fits(rows, inputs["attention_mask"], False)
        return Batch(inputs, None, _ids(rows), extras=_extras(rows))

    def filler(self, like: Row | None = None, apart: bool = False) -> Batch:
        """One unlabelled sample with a picture: a micro-batch for a process whose rows have run out.

        The processor makes it once; further ones share their tensors with the first.

        Args:
            like: a row whose ``extras`` the sample copies, so that what reads them finds them.
            apart: the batch knows the picture, see `train`.
        """
        rows = [dummy(like)]
        if self._filler is None:
            self._filler = self._process(rows, self.template.conversations(rows), "right")
        inputs, labels = dict(self._filler), torch.full_like(self._filler["input_ids"], IGNORED)
        pictures = laid_together([inputs], 0)[1] if apart else ()
        return Batch(inputs, labels, _ids(rows), extras=_extras(rows), pictures=pictures)

    def _made(
        self, rows: Sequence[Row], rendered: Sequence[Rendered], apart: bool
    ) -> tuple[dict[str, Any], Sequence[RowPictures | None]]:
        """Inputs of a training batch, and the pictures of each sample if it is asked for."""
        if not apart or not any(row.images for row in rows):
            return self._process(rows, rendered, "right"), ()
        made = [self._process([row], [one], "right") for row, one in zip(rows, rendered, strict=True)]
        return laid_together(made, self.processor.tokenizer.pad_token_id)

    def _process(self, rows: Sequence[Row], rendered: Sequence[Rendered], side: str) -> dict[str, Any]:
        """Runs the processor over texts and pictures; names the row it refuses."""
        pictures = [
            [enlarged(open_picture(image, f"row {row.id!r}"), self.processor) for image in row.images]
            for row in rows
        ]
        options: dict[str, Any] = {"images": pictures} if any(pictures) else {}
        if rendered[0].suffix is not None:
            options["suffix"] = [one.suffix for one in rendered]
        try:
            made = self.processor(
                text=[one.text for one in rendered],
                padding=True,
                padding_side=side,
                truncation=False,
                add_special_tokens=self.template.adds_special_tokens(rendered[0].text),
                return_tensors="pt",
                **options,
            )
        except FORWARD_REFUSALS as error:
            if len(rows) > 1:
                for row, one in zip(rows, rendered, strict=True):
                    self._process([row], [one], side)
                names = ", ".join(repr(row.id) for row in rows)
                raise UserError(
                    f"rows {names}: the processor takes each of them alone and refused them together ({error}); "
                    "give all rows of a task the same number of pictures, or set the batch size to 1."
                ) from error
            sizes = ", ".join(f"{picture.width}×{picture.height}" for picture in pictures[0]) or "none"
            raise UserError(
                f"row {rows[0].id!r}: the processor refused it ({error}); correct or remove the row, whose text "
                f"begins {rendered[0].text[:80]!r} and whose pictures are (width×height): {sizes}."
            ) from error
        made.pop("labels", None)  # ours are made by one rule for all processors
        return dict(made)

    def _fits(self, rows: Sequence[Row], mask: Tensor, drop: bool) -> list[bool]:
        """Which samples are short enough; an error for the first that is not, unless it may be dropped.

        A filler is as long as its picture is; nothing of it is learned or scored.
        """
        lengths = mask.sum(1).tolist()
        most = self.max_length
        fits = [
            most is None or length <= most or row.id == FILLER_ID
            for row, length in zip(rows, lengths, strict=True)
        ]
        if drop or all(fits):
            return fits
        index = fits.index(False)
        raise UserError(
            f"row {rows[index].id!r}: a sample must fit into {self.max_length} tokens (pictures included), "
            f"it has {lengths[index]}; raise model.max_length, shorten the row, or (in training) set "
            "data.on_too_long: drop."
        )


def _labels(rows: Sequence[Row], rendered: Sequence[Rendered], inputs: dict[str, Any]) -> Tensor:
    """(batch, length) token ids on what is learned, `IGNORED` elsewhere."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    if rendered[0].suffix is not None:
        return torch.where(inputs["token_type_ids"].bool() & mask, ids, IGNORED)
    labels = torch.full_like(ids, IGNORED)
    for index, (row, one) in enumerate(zip(rows, rendered, strict=True)):
        found = align(one.ids, ids[index][mask[index]].tolist(), one.learned)
        if found is None:
            raise UserError(
                f"row {row.id!r}: its answers cannot be found again behind the processor's picture tokens; "
                "this processor rewrites text besides expanding pictures, and is not supported."
            )
        first = int(mask[index].int().argmax())
        for start, stop in found:
            labels[index, first + start : first + stop] = ids[index, first + start : first + stop]
    return labels


def _ids(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(row.id for row in rows)


def _check_pictures(rows: Sequence[Row], signs: Mapping[str, str]) -> None:
    for row in rows:
        parts = [part for message in row.messages for part in message["content"]]
        places = sum(part["type"] == "image" for part in parts)
        if places != len(row.images):
            raise UserError(
                f"row {row.id!r}: every picture must have its place in the messages, got {len(row.images)} "
                f"pictures and {places} places; correct the row."
            )
        for part in parts:
            found = next((sign for sign in signs if sign in part.get("text", "")), None)
            if found is not None:
                raise UserError(
                    f"row {row.id!r}: a text must not hold the model's own sign for a {signs[found]}, got {found!r}; "
                    "remove it from the text, or make it a part of type image."
                )


def dummy(like: Row | None) -> Row:
    """A row of a grey picture with next to no text.

    Args:
        like: a row whose ``extras`` it copies.
    """
    picture = {"type": "image"}
    dot = {"type": "text", "text": "."}
    messages = [{"role": "user", "content": [picture, dot]}, {"role": "assistant", "content": [dot]}]
    row = Row(FILLER_ID, messages, (Image.new("RGB", (64, 64), (128, 128, 128)),))
    return row if like is None else replace(row, extras=like.extras)


def _extras(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows' extras, one entry per sample: a tensor of numbers or of equal tensors, else a list.

    A row without an extra that another one has stands there with None.
    """
    keys = dict.fromkeys(key for row in rows for key in row.extras)
    return {key: _stack([row.extras.get(key) for row in rows]) for key in keys}


def _stack(values: list[Any]) -> Any:
    if all(isinstance(value, Tensor) for value in values):
        return torch.stack(values) if len({value.shape for value in values}) == 1 else values
    if all(isinstance(value, int | float) for value in values):
        return torch.tensor(values)
    return values


def answer_tokens(batch: Batch, joined: int | None = None) -> int:
    """How many tokens of a batch are learned.

    Args:
        batch: on the CPU.
        joined: only those of the rows of one joined set, from 1, 0 the task's; None: all.
    """
    if batch.labels is None:
        return 0
    learned = batch.per_sample(batch.labels != IGNORED)
    return int((learned if joined is None else learned[batch.extras[JOINED] == joined]).sum())
