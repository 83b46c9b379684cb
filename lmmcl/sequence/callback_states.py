"""What the callbacks of a run keep as plain Python (Lightning's ``state_dict``), to a checkpoint and back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback, callbacks_of
from lmmcl.run.checkpoint import as_json

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM


def plain_states(module: ContinualLMM) -> dict[str, dict[str, Any]]:
    """The states by name: of stage callbacks under ``callbacks``, of plain ones that have any under ``others``.

    Raises:
        UserError: JSON would give one back as something else.
    """
    states = {"callbacks": {c.name: _plain(c, c.state_dict()) for c in module.stage_callbacks}}
    others = {c.state_key: _plain(c, state) for c in _others(module) if (state := c.state_dict())}
    return {**states, "others": others} if others else states


def restore_plain_states(states: Mapping[str, Mapping[str, Any]], module: ContinualLMM) -> None:
    """Gives every callback its state back, of what `plain_states` gave; a plain one may have been left out since."""
    callbacks: dict[str, StageCallback] = {callback.name: callback for callback in module.stage_callbacks}
    for name, plain in states["callbacks"].items():
        callbacks[name].load_state_dict(plain)
    others = {callback.state_key: callback for callback in _others(module)}
    for name, plain in states.get("others", {}).items():
        if name in others:
            others[name].load_state_dict(plain)
        else:
            warnings.warn(
                f"trainer.callbacks: {name} has a state in the checkpoint that this run goes on from, and is not "
                "listed any more: the state is let go.",
                stacklevel=2,
            )


def _others(module: ContinualLMM) -> list[Callback]:
    """Callbacks that know nothing of stages."""
    return [c for c in callbacks_of(module.trainer) if not isinstance(c, StageCallback)]


def _plain(callback: Callback, state: dict[str, Any]) -> dict[str, Any]:
    try:
        same = json.loads(as_json(state)) == state
    except (TypeError, ValueError):
        same = False
    if not same:
        stage = isinstance(callback, StageCallback)
        name = callback.name if isinstance(callback, StageCallback) else type(callback).__name__
        where = "self.tensors" if stage else "self.tensors of a lmmcl.StageCallback"
        raise UserError(
            f"trainer.callbacks: {name}.state_dict must hold plain Python that JSON gives back as it was "
            f"(text keys, no tuples, no nan), got {state!r}. Tensors belong into {where}."
        )
    return state
