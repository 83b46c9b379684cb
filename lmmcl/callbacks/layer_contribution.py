"""How much each layer's attention and MLP put into the logits otherwise than they did in the base model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.outputs.branch_outputs import BRANCHES, BranchOutputs
from lmmcl.probing.probe import Reading, answer_batches, head_weight, head_weights, held_out_rows
from lmmcl.structure.widths import Widths
from lmmcl.weights import holds_first, local

_HEAD, _BASE = "head/", "outputs"
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Grams:
    """Products of the head's weights, (width, width) each: all that the distance of two products needs of them.

    ``now`` is W_tᵀ W_t. Where the head moved by E = W_t − W_b, ``cross`` is W_tᵀ E and ``moved`` is Eᵀ E.
    """

    now: Tensor
    cross: Tensor | None = None
    moved: Tensor | None = None


def logit_distance(present: Tensor, base: Tensor, grams: Grams) -> Tensor:
    """‖W_t h_t − W_b h_b‖₂ of each token, without a tensor of the size of the vocabulary.

    With d = h_t − h_b, W_t h_t − W_b h_b = W_t d + E h_b, so that the square is dᵀ (W_tᵀ W_t) d + 2 dᵀ (W_tᵀ E) h_b +
    h_bᵀ (Eᵀ E) h_b. A frozen head has E = 0 and the first term alone. Written with differences, an unchanged model
    gives 0 exactly, where ‖W_t h_t‖² − 2 ⟨·,·⟩ + ‖W_b h_b‖² would cancel.

    Args:
        present: (tokens, width) h_t.
        base: (tokens, width) h_b.
        grams: of the two heads.

    Returns:
        (tokens,) in fp32.
    """
    base = base.float()
    moved = present.float() - base
    square = (moved @ grams.now * moved).sum(-1)
    if grams.cross is not None and grams.moved is not None:
        square = square + 2 * (moved @ grams.cross * base).sum(-1) + (base @ grams.moved * base).sum(-1)
    return square.clamp(min=0).sqrt()


@torch.no_grad()
def grams_of(present: Tensor, base: Tensor | None = None) -> Grams:
    """The products of the head's weights, summed in fp32 over blocks of words; collective where these are sharded.

    Args:
        present: (vocabulary, width) W_t, sharded by rows or not.
        base: W_b, sharded alike; None: the same.
    """
    width, mine = present.shape[1], local(present)
    count = 1 if base is None else 3
    total = torch.zeros(count, width, width, device=mine.device)
    for start in range(0, len(mine), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        now = mine[rows].float()
        total[0] += now.T @ now
        if base is not None:
            moved = now - local(base)[rows].float()
            total[1] += now.T @ moved
            total[2] += moved.T @ moved
    if isinstance(present, DTensor):
        if not holds_first(present):
            total.zero_()
        dist.all_reduce(total)
    return Grams(*total)


class LayerContribution(StageCallback):
    """Shows which layers changed what they say: attention against MLP, layer by layer, after every stage.

    The layer contribution of arXiv 2510.08564. The outputs h of every decoder layer's attention and MLP, before they
    are added to the residual, are taken at the positions that predict the first tokens of held-out gold answers
    (``dev`` rows, teacher-forced, pictures expanded), and ‖W_t h_t − W_b h_b‖₂ between the present and the base model
    is averaged over a sample's tokens, then over samples; W is the output embedding. See `logit_distance` for how no
    vector of the vocabulary's size is made. A layer whose tokens are mixed otherwise (linear attention) stands under
    attention.

    It costs one forward over the rows per stage and the head's Gram matrix, a product of vocabulary × width² (once,
    where the head is frozen). Its state, and so every checkpoint, holds the base's outputs: samples × tokens × 2
    layers × width in the forward's type, 51 MB for 16 rows of 8 tokens of a 7B model with 28 layers in bf16; and where
    a task trains the head a copy of the head (as a reference to stage 0: no bytes on disk).

    Written to ``probes/LayerContribution.jsonl`` and, as means over layers, ``probes/LayerContribution mean.jsonl``.

    Args:
        samples: held-out ``dev`` rows, from 1, dealt over the tasks.
        answer_tokens: of each gold answer so many tokens count, from the first; from 1.
        batch_size: rows in a forward, from 1.
        name: of its log and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self, samples: int = 16, answer_tokens: int = 8, batch_size: int = 8, name: str | None = None
    ) -> None:
        super().__init__(name)
        for key, value in (
            ("samples", samples),
            ("answer_tokens", answer_tokens),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise UserError(
                    f"trainer.callbacks: LayerContribution.{key} must be at least 1, got {value}."
                )
        self.samples = samples
        self.answer_tokens = answer_tokens
        self.batch_size = batch_size
        self._rows: list[Row] | None = None
        self._grams: Grams | None = None

    @override
    def state_bytes(self, widths: Widths, on_disk: bool = False) -> int:
        tokens = self.samples * self.answer_tokens * len(BRANCHES) * widths.layers
        return tokens * widths.hidden * widths.each + 4 * widths.head * (not on_disk)

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        if self._rows is None:
            self._rows = [row for _, row in held_out_rows(module, self.samples, self.name)]
        if not self._rows:
            return
        watch = BranchOutputs(module.model, module.anatomy)
        outputs, samples = self._outputs(module, watch)
        if task is None:
            self.tensors = {f"{_HEAD}{name}": tensor for name, tensor in head_weights(module).items()}
            self.tensors[_BASE] = outputs
        grams = self._head(module)
        distances = torch.stack(
            [logit_distance(now, base, grams) for now, base in zip(outputs, self.tensors[_BASE], strict=True)]
        )
        each = _mean_of_samples(distances.cpu(), samples.cpu())
        values = dict(zip(watch.names, each, strict=True))
        means = {
            kind: sum(found) / len(found)
            for kind in BRANCHES
            if (found := [value for name, value in values.items() if name.endswith(kind)])
        }
        about = (
            "Distance between what a layer's attention or MLP adds to the logits of held-out answers and what it added "
            "in the base model, mean over tokens, then samples"
        )
        for log, more, read in (("", "", values), (" mean", ", then layers", means)):
            title, unit = f"Layer contribution{log}", "‖W h − W_base h_base‖₂"
            Reading(f"{self.name}{log}", type(self).__name__, title, unit, f"{about}{more}.").put(
                trainer, module, "stage", read
            )

    def _outputs(self, module: ContinualLMM, watch: BranchOutputs) -> tuple[Tensor, Tensor]:
        """Outputs at all answer tokens, (branches, tokens, width), and the sample of each token; collective."""
        assert self._rows is not None
        found: list[Tensor] = []
        samples: list[Tensor] = []
        done = 0
        # A compiled layer would not see hooks that came after it.
        plain = torch.compiler.set_stance("force_eager") if module.hparams["compile"] else nullcontext()
        with module.inference(gather=False), plain, watch.watching():
            for batch in answer_batches(module, self._rows, self.batch_size, self.answer_tokens):
                assert batch.labels is not None
                watch.at(batch.labels)
                samples.append(module.token_outputs(batch).samples + done)
                found.append(watch.take())
                done += len(batch)
            module.free_gathered()
        return torch.cat(found, dim=1), torch.cat(samples)

    def _head(self, module: ContinualLMM) -> Grams:
        if self._grams is None:
            name = head_weight(module)
            base = self.tensors.get(f"{_HEAD}{name}")
            grams = grams_of(module.parameters_by_name([name])[name].detach(), base)
            if base is not None:
                return grams
            self._grams = grams
        return self._grams


def _mean_of_samples(values: Tensor, samples: Tensor) -> list[float]:
    """Mean over the tokens of each sample, then over samples.

    Args:
        values: (branches, tokens).
        samples: (tokens,).
    """
    means = [values[:, samples == sample].mean(dim=1) for sample in samples.unique()]
    found: list[float] = torch.stack(means).mean(dim=0).tolist()
    return found
