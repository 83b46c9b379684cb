"""Whether a run fits the memory of its devices."""

from __future__ import annotations

from collections.abc import Iterator

from lmmcl.preflight.finding import Finding
from lmmcl.preflight.memory import Load, Need, Place
from lmmcl.structure.recipe_table import size_text
from lmmcl.structure.recomputed import PARTS, parts_of

_TIGHT = 0.9
"""Share of a GPU's memory from which it is tight: the driver, the libraries and fragments take the rest."""


def check_memory(need: Need, place: Place, load: Load | None, known: bool = True) -> Iterator[Finding]:
    """The sum for training and for evaluation; a failure where not even the state fits, a warning where it is tight.

    Args:
        need: bytes on each device.
        place: where the run takes place.
        load: the largest batches.
        known: whether the model's widths are.
    """
    where = f"each of {place.world} devices under {place.strategy}" if place.world > 1 else "one device"
    parts = {
        "weights": need.weights,
        "gradients": need.gradients,
        "optimizer": need.optimizer,
        "kept by callbacks": need.kept,
        "gathered layers" if place.strategy == "fsdp2" and place.world > 1 else "bf16 copies": need.copies,
    }
    listed = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items() if size)
    if load is None or not known:
        yield Finding(
            "warning",
            "memory",
            "",
            "activations are not estimated: the samples' lengths or the model's widths are not known",
        )
        activations = ""
    else:
        other = (
            ""
            if parts_of(place.checkpointing) == set(PARTS)
            else f", {size_text(need.checkpointed)} with model.activation_checkpointing"
        )
        largest = f"{load.samples} × {load.length:,} tokens{other}"
        activations = f", activations about {size_text(need.activations)} ({largest})"
    yield _judged("training", need.training, f"{listed}{activations}", where, need.state, place.device)
    if load is not None and known:
        batch = f"{load.prompts} prompts of up to {load.prompt:,} tokens at once"
        text = f"weights {size_text(need.weights)}, the rest for {batch}"
        yield _judged("evaluation", need.evaluation, text, where, need.weights, place.device)


def _judged(what: str, total: int, parts: str, where: str, certain: int, device: int | None) -> Finding:
    text = f"{what} needs about {size_text(total)} of {where}: {parts}"
    if device is None:
        return Finding("ok", "memory", "", text)
    text = f"{text}; it has {size_text(device)}"
    if certain > device:
        way_out = (
            "shard over more devices (trainer.strategy: fsdp2), or train fewer parameters (model.recipe)"
        )
        return Finding("failure", "memory", "", f"{text}: too small even without samples; {way_out}.")
    if total > _TIGHT * device:
        way_out = (
            "lower data.micro_batch_size, set model.activation_checkpointing, or shard (trainer.strategy: fsdp2)"
            if what == "training"
            else "lower HeldOutEvaluation.batch_size"
        )
        return Finding("warning", "memory", "", f"{text}: it may not fit; {way_out}.")
    return Finding("ok", "memory", "", text)
