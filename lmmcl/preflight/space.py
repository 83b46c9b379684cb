"""Whether the disk of the run folder has room for its checkpoints and stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lmmcl.mitigation import StageCallback
from lmmcl.optim.trained_bytes import PLAIN, TrainedBytes
from lmmcl.preflight.finding import Finding
from lmmcl.sequence.disk import disk_need, free_bytes
from lmmcl.structure.recipe_table import size_text
from lmmcl.structure.widths import Widths

_TIGHT = 0.9
"""Share of the free room from which it is tight: answers, logs and pictures come on top."""


def check_space(
    run: Path,
    numel: Mapping[str, int],
    trained: Sequence[Mapping[str, str]],
    callbacks: Sequence[StageCallback] = (),
    widths: Widths | None = None,
    each: TrainedBytes = PLAIN,
) -> Iterator[Finding]:
    """Compares what the sequence will write with what is free.

    Args:
        run: the run folder, made or not.
        numel: elements of every parameter.
        trained: what each task trains, in order.
        callbacks: of the run that hear about stages.
        widths: of the model.
        each: bytes of a trained parameter.
    """
    need, free = disk_need(numel, trained, callbacks, widths, each), free_bytes(run)
    text = (
        f"{size_text(need.total)} (checkpoints {size_text(need.last)}, stages {size_text(need.stages)}) of "
        f"{size_text(free)} free in {run}"
    )
    if need.total > free:
        way_out = "make room, choose another folder with --run, or train fewer parameters (model.recipe)"
        yield Finding("failure", "disk", "", f"{text}: too small; {way_out}.")
    elif need.total > _TIGHT * free:
        yield Finding("warning", "disk", "", f"{text}: tight, answers and logs come on top.")
    else:
        yield Finding("ok", "disk", "", text)
