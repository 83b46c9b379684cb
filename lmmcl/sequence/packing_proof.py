"""Proves, before a task is trained, that the model reads packed samples as it reads them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lmmcl.agreement import agreed
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FORWARD_REFUSALS
from lmmcl.data.batches.packing import pack
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM

_ROUNDING = 1e-3
"""Share of a hidden state that may differ, in fp32."""
_COARSE = 2e-2
"""The same in bf16, where the samples that are compared may round alike by chance, and packed ones otherwise."""
_AS_OFTEN = 4.0
"""How much more than padding changes by rounding may packing change, where that is more."""
_AT_MOST = 0.5
"""Share that no rounding explains; another sample in sight changes the first hidden states behind it altogether."""


def prove_packing(module: ContinualLMM, rows: Sequence[Row]) -> None:
    """Lets the datamodule pack as the model's attention wants it, once hidden states are found equal; collective.

    A mask that lets samples see each other, or a state that runs on from one into the next (linear attention,
    convolutions), changes hidden states by much more than rounding. How much rounding changes is measured, too: by the
    same samples padded together and alone.

    Args:
        module: whose task has begun.
        rows: of the task, at least one.

    Raises:
        UserError: the model cannot read packed samples.
    """
    data = module.data
    if not data.layout.packing:
        return
    data.layout = replace(data.layout, one=_wants_one_sequence(module))
    collator = data.collator
    made = [(row, collator.train([row])) for row in rows]
    fitting = [(row, batch) for row, batch in made if batch.ids[0] == row.id]  # the others are dropped
    if not fitting:
        raise UserError(
            f"data.packing: none of the first {len(rows)} rows fits into model.max_length, and packing is proven with "
            "them; raise model.max_length, or set data.packing: false."
        )
    chosen = [*fitting[:2], fitting[-1]]
    padded = collator.train([row for row, _ in chosen])
    packed = pack(padded, collator.processor.tokenizer.pad_token_id, one=True)
    whole = _hidden(module, padded)
    alone = torch.cat([_hidden(module, batch) for _, batch in chosen])
    found, reason = _packed_hidden(module, packed)
    with agreed():
        if found is None or found.shape != whole.shape:
            raise _refusal(module, reason or "it reads other positions than the tokens")
        least = _COARSE if module.bf16 else _ROUNDING
        rounding = min(max(least, _AS_OFTEN * _difference(alone, whole)), _AT_MOST)
        difference = _difference(found, whole)
        if not difference <= rounding:
            raise _refusal(
                module,
                f"hidden states differ by {difference:.1%} from those of the same samples apart, of which rounding "
                f"explains {rounding:.1%}",
            )


def _wants_one_sequence(module: ContinualLMM) -> bool:
    config = module.model.config.get_text_config()  # type: ignore[union-attr, operator]  # untyped in transformers
    return "flash" in str(config._attn_implementation)


def _hidden(module: ContinualLMM, batch: Batch) -> Tensor:
    """(tokens, width) hidden states at every token of the samples that is predicted."""
    with module.inference(gather=False):
        outputs = module.token_outputs(batch.to(module.device), everywhere=True)
        module.free_gathered()
    assert outputs.everywhere is not None
    return outputs.everywhere.hidden.float()


def _packed_hidden(module: ContinualLMM, batch: Batch) -> tuple[Tensor | None, str]:
    try:
        return _hidden(module, batch), ""
    except torch.OutOfMemoryError:
        raise
    except FORWARD_REFUSALS as error:
        return None, f"{type(error).__name__}: {error}"


def _difference(found: Tensor, wanted: Tensor) -> float:
    """The largest share by which a hidden state differs from the one it should be."""
    return float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-12)).max())


def _refusal(module: ContinualLMM, reason: str) -> UserError:
    return UserError(
        f"data.packing: {type(module.model).__name__} does not read packed samples as it reads them apart: {reason}. "
        "Set data.packing: false; batches of like lengths (data.group_by_length) pad little."
    )
