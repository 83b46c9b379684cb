"""What the tests of adapters look at: a model's logits, and a written stage that is measured again."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM
from lmmcl.sequence.stage_weights import StageWeights
from tests.callbacks.laws import law_data
from tests.toy import toy_module, toy_trainer


def logits(module: ContinualLMM) -> Tensor:
    """At the answers of a few rows of the first task, as the model would be measured."""
    batch = module.data.collator.train(module.data.train_rows(0)[:4])
    with module.inference():
        return module.token_outputs(batch).map(lambda given, labels: given.float())


def measured_again(
    checkpoint: Path, run: Path, stage: int, callbacks: Sequence[Callback], empty: Path
) -> Tensor:
    """Logits of a stage of a run of the laws' sequence, read by ``Trainer.validate`` beside some callbacks."""
    seen: list[Tensor] = []

    class Last(Callback):
        @override
        def on_validation_end(self, trainer: Trainer, pl_module: object) -> None:
            assert isinstance(pl_module, ContinualLMM)
            seen.append(logits(pl_module))

    trainer = toy_trainer(callbacks=[*callbacks, StageWeights(run, stage), Last()])
    trainer.validate(toy_module(checkpoint, empty), datamodule=law_data(), verbose=False)
    return torch.stack(seen)[0]
