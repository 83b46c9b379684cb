"""All checks, in the order in which a run would meet their faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lmmcl.data.batches.collate import Collator
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.data.row_view import RowView
from lmmcl.data.task import Part, Task
from lmmcl.errors import UserError
from lmmcl.foreseen import foresee
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.preflight.activations import Shape
from lmmcl.preflight.adapters import Adapted
from lmmcl.preflight.duplicates import check_duplicates
from lmmcl.preflight.features import check_features, image_token
from lmmcl.preflight.finding import Finding
from lmmcl.preflight.fit_memory import check_memory
from lmmcl.preflight.lengths import Lengths, check_lengths, measure
from lmmcl.preflight.mask import Piece, check_mask, pieces
from lmmcl.preflight.memory import Load, Place, need_of
from lmmcl.preflight.recipes import check_recipes, trained_by
from lmmcl.preflight.rows import check_rows
from lmmcl.preflight.scan import Rows, Scanned, scan
from lmmcl.preflight.space import check_space
from lmmcl.preflight.steps import check_steps
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import count_text, on_meta
from lmmcl.structure.widths import Widths

_FEATURES = 2
"""Rows of a task whose image features are counted."""
_MEASURED: tuple[Part, ...] = ("dev", "test")
_FIRST = 8
"""Rows of a part that the cheap check reads."""


@dataclass(frozen=True)
class Sample:
    """A training row as the model will see it."""

    task: str
    row: str
    pieces: Sequence[Piece]


def cheap(
    module: ContinualLMM, data: TaskSequenceDataModule, mitigations: Sequence[Mitigation] = ()
) -> list[Finding]:
    """What can be known in a second, before weights are loaded: the first rows of every part, recipes, steps.

    Args:
        module: not built.
        data: its data.
        mitigations: of the run, which may choose other rows.
    """
    scanned = scan(_parts(data, _FIRST), module.processor, sample=0, processes=0)
    found = [
        *check_rows(scanned, data.on_bad_row == "drop"),
        *check_mask(module.processor, _samples(data, 1)),
    ]
    try:
        anatomy = Anatomy.of(on_meta(module.checkpoint))
    except UserError as error:
        return [*found, Finding("failure", "recipe", "", str(error))]
    return [*found, *check_recipes(module, data, anatomy), *check_steps(data, 1, mitigations)]


def check_all(
    module: ContinualLMM | None,
    data: TaskSequenceDataModule | None,
    place: Place,
    *,
    prompts: int = 32,
    decode_all: bool = False,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """Every check that needs no weights; what cannot be made stops only what needs it.

    Args:
        module: not built; None where it could not be made.
        data: the tasks; None where none loads.
        place: where the run takes place.
        prompts: samples of a batch of generation.
        decode_all: decode every picture.
        processes: that read rows; None: as many as are worth it.
        progress: called with rows done and all rows.
    """
    processor = None if module is None else module.processor
    scanned: list[Scanned] = []
    lengths: list[Lengths] = []
    if data is not None:
        scanned = scan(_parts(data), processor, decode_all=decode_all, processes=processes, progress=progress)
        yield from check_rows(scanned, data.on_bad_row == "drop")
        if module is not None:
            yield from check_mask(processor, _samples(data, 4))
            lengths = measure(scanned, processor, module.max_length, processes)
            yield from check_lengths(lengths, module.max_length, data.on_too_long)
    model = None
    if module is not None:
        try:
            model = on_meta(module.checkpoint)
        except UserError as error:
            yield Finding("failure", "recipe", "", str(error))
    if module is not None and model is not None and data is not None:
        yield from _of_model(module, data, model, place, scanned, lengths, prompts)
    if data is not None:
        yield from check_steps(data, place.shares, place.mitigations)
        yield from check_duplicates(scanned)


def _of_model(
    module: ContinualLMM,
    data: TaskSequenceDataModule,
    model: nn.Module,
    place: Place,
    scanned: Sequence[Scanned],
    lengths: Sequence[Lengths],
    prompts: int,
) -> Iterator[Finding]:
    """What follows from the model's structure: features, recipe, memory, disk."""
    try:
        anatomy = Anatomy.of(model)
    except UserError as error:
        yield Finding("failure", "recipe", "", str(error))
        return
    samples = _samples(data, _FEATURES, pictures=True)
    yield from check_features(model, anatomy, module.processor, samples)
    yield from check_recipes(module, data, anatomy)
    trained = list(trained_by(module, data, anatomy).values())
    if not trained:
        return
    mlps = 1
    if len(trained) == len(data.tasks):
        try:
            adapted = Adapted(module, data, model, anatomy, place.mitigations)
        except UserError as error:
            yield Finding("failure", "adapters", "", str(error))
            return
        anatomy, trained, mlps = adapted.anatomy, adapted.trained, adapted.mlps
        if adapted.added:
            most = max(sum(anatomy.numel[name] for name in names) for names in trained)
            text = f"{count_text(adapted.added)} parameters are added; a task trains {count_text(most)} of them at most"
            yield Finding("ok", "adapters", "", f"{text}, in the place of what its recipe names")
    config: Any = model.config
    shape = Shape.of(config, 1 + max(anatomy.depth.values(), default=0), len(anatomy.vision_blocks))
    shape = shape and replace(shape, mlps=mlps)
    frozen = getattr(config.dtype, "itemsize", 4)
    load = _load(data, place, lengths, prompts)
    widths = Widths.of(config, anatomy, trained, place.bf16)
    need = need_of(anatomy, shape, trained, frozen, place, load, widths)
    yield from check_memory(need, place, load, shape is not None)
    yield from check_space(module.run_path, anatomy.numel, trained, place.callbacks, widths, place.each)


def _load(
    data: TaskSequenceDataModule, place: Place, lengths: Sequence[Lengths], prompts: int
) -> Load | None:
    """The largest batches, from the lengths of the samples."""
    training = [one for one in lengths if one.part.part.part == "train"]
    measured = [one for one in lengths if one.part.part.part != "train"]
    if not training or not measured:
        return None
    samples = data.steps.micro_batch_size or -(-_samples_of_step(data, place) // place.shares)
    longest = max(one.longest for one in training)
    if data.layout.tokens is not None:
        samples = min(samples, max(1, data.layout.tokens // max(1, longest)))
    answers = [row.answer_tokens for one in training for row in one.part.seen]
    return Load(
        samples,
        longest,
        max(one.pixels for one in training),
        max(answers, default=0),
        prompts,
        max(one.longest + one.part.part.task.max_new_tokens for one in measured),
    )


def _samples_of_step(data: TaskSequenceDataModule, place: Place) -> int:
    """Samples of the largest step of the run, with those that join it."""
    sizes = []
    for index, task in enumerate(data.tasks):
        try:
            sizes.append(foresee(data, index, place.mitigations).samples)
        except UserError:  # told by the check of steps
            sizes.append(data.steps.of(task))
    return max(sizes)


def samples_of(module: ContinualLMM, data: TaskSequenceDataModule, count: int = 1) -> Iterator[Sample]:
    """The first training rows of every target, cut by their masks."""
    collator = Collator(module.processor, None, always_image=False)
    image = image_token(on_meta(module.checkpoint), module.processor)
    shown: dict[str, int] = {}
    for task, row in _samples(data, count + _FIRST):
        if shown.get(task.name, 0) == count:
            continue
        try:
            yield Sample(task.name, row.id, pieces(collator, row, image))
        except UserError:
            continue  # told by the check of rows
        shown[task.name] = shown.get(task.name, 0) + 1


def _parts(data: TaskSequenceDataModule, first: int | None = None) -> list[Rows]:
    """What a run reads: training rows, measured rows, and the ``dev`` rows beside these.

    Args:
        data: the tasks.
        first: only so many rows of each part, the first of its source; None: those that the run will use.
    """
    parts: list[Rows] = []
    wanted: list[tuple[Task, Part, int]] = [(task, "train", index) for index, task in enumerate(data.tasks)]
    wanted += [(task, part, -1) for task in (*data.tasks, *data.held_out) for part in _MEASURED]
    for task, part, index in wanted:
        try:
            if first is not None:
                every = task.source.split(part)
                rows: Sequence[Row] = RowView(range(min(first, len(every))), every.__getitem__)
            else:
                rows = data.train_rows(index) if part == "train" else data.eval_rows(task, part)
        except UserError:
            continue  # told by the check of steps; dev rows may be missing
        parts.append(Rows(task, part, rows))
    return parts


def _samples(data: TaskSequenceDataModule, count: int, pictures: bool = False) -> list[tuple[Task, Row]]:
    """The first training rows of every target; or, with pictures, rows of all tasks that have some."""
    chosen: list[tuple[Task, Row]] = []
    for part in _parts(data, count):
        if part.part != "train" and not (pictures and part.part == "test"):
            continue
        for place in range(len(part.rows)):
            try:
                row = part.rows[place]
            except UserError:
                continue  # told by the check of rows
            if row.images or not pictures:
                chosen.append((part.task, row))
    return chosen
