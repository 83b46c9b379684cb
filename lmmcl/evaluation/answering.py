"""Answers rows in batches of similar length, on any number of processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from lmmcl.agreement import agree
from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.data_parallel import share
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.kept_features import Prompts
from lmmcl.evaluation.processes import anyone

Length = tuple[int, int]
"""How long a prompt is: its pictures, then its characters."""


MakePrompts = Callable[[Sequence[Row]], Batch | Prompts]


class Speaker(Protocol):
    """What answering needs of a `lmmcl.model.ContinualLMM`."""

    @property
    def model(self) -> Any:
        """The transformers model."""
        ...

    @property
    def processor(self) -> Any:
        """Its processor or tokenizer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the prompts go."""
        ...

    def inference(self) -> AbstractContextManager[Any]:
        """Eval mode, autocast, and on FSDP2 the weights gathered, for as long as it is open."""
        ...


class EvaluationStopped(Exception):  # noqa: N818 - a request that was met, not an error
    """The evaluation was asked to stop between two batches; tasks already done are kept."""


def length(row: Row) -> Length:
    """How long a row's prompt is, without opening its pictures: number of pictures, then characters."""
    texts = (part.get("text", "") for message in row.messages[:-1] for part in message["content"])
    return len(row.images), sum(len(text) for text in texts)


def batches(lengths: Sequence[Length], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of similar length, longest first: a lack of memory shows at once.

    The batches do not depend on the number of processes: neither do the answers, not even in bf16.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i), reverse=True)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def answered(
    module: Speaker,
    rows: Sequence[Row],
    prompts: MakePrompts,
    max_new_tokens: int,
    *,
    lengths: Sequence[Length] | None = None,
    batch_size: int = 32,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, str]]:
    """Answers rows in batches; yields the positions and answers of this process (see `in_order`).

    Call it on every process, inside ``module.inference()``, and use it up. Batches are dealt to the processes in turn.
    One that runs out repeats a row whose answer is dropped, so that all of them take part in the same number of
    forward passes (on FSDP2 a forward is collective).

    Args:
        module: the model, its processor and its device.
        rows: at least one; the same on every process.
        prompts: makes a left-padded batch of prompts, or finds one with `KeptFeatures.prompts`.
        max_new_tokens: longest answer in tokens.
        lengths: of the rows, where `length` would have to open them to know.
        batch_size: rows in a batch on one process.
        stop: asked between batches; true on any process stops all.
        progress: called with the number of rows done on all processes.

    Raises:
        EvaluationStopped: ``stop`` said so.
        UserError: a row could not be answered on some process, or its memory does not hold a batch.
    """
    rank, processes = share()
    dealt = batches(lengths if lengths is not None else [length(row) for row in rows], batch_size)
    rounds = -(-len(dealt) // processes)
    mine = [dealt[i] if i < len(dealt) else [] for i in range(rank, rounds * processes, processes)]
    error: Exception | None = None
    with ThreadPoolExecutor(max_workers=1) as ahead:

        def collate(turn: int) -> Any:
            return ahead.submit(lambda: prompts([rows[i] for i in mine[turn] or dealt[-1][-1:]]))

        coming = collate(0)
        for turn, indices in enumerate(mine):
            if anyone(stop(), module.device):
                raise EvaluationStopped
            answers: list[str] = []
            try:
                batch: Batch | Prompts = coming.result()
                if turn + 1 < rounds:
                    coming = collate(turn + 1)
                answers = _answers(module, batch, max_new_tokens)
            except torch.OutOfMemoryError as failure:
                error = UserError(
                    f"{len(indices)} prompts at once do not fit into memory ({' '.join(str(failure).split())[:200]}). "
                    "Lower batch_size, of HeldOutEvaluation in trainer.callbacks or of the command; a run goes on with "
                    "it by --ckpt_path last."
                )
            except Exception as failure:  # noqa: BLE001 - raised on every process, just below
                error = failure
            if anyone(error is not None, module.device):
                agree(error)
            yield from zip(indices, answers, strict=bool(indices))
            progress(min((turn + 1) * processes * batch_size, len(rows)))


def _answers(module: Speaker, batch: Batch | Prompts, max_new_tokens: int) -> list[str]:
    if isinstance(batch, Prompts):
        return batch.by.answers(batch, max_new_tokens)
    return generate(module.model, module.processor, batch.to(module.device), max_new_tokens)
