"""A sequence small enough to be trained inside a test: a tiny checkpoint and tasks of a few one-colour pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from PIL import Image

from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.scorers import exact_match

WORDS = ["red", "green", "blue", "circle", "square", "left", "right", "yes"]
SIZES = {"train": 20, "dev": 6, "test": 7}


@dataclass(frozen=True)
class ToySource:
    """Rows whose answers have one to three words, so that samples differ in answer tokens."""

    shift: int
    text: bool = False
    """Every third row has no picture."""

    def split(self, name: str) -> Sequence[Row]:
        first = {"train": 0, "dev": 100, "test": 200}[name]
        return [self._row(first + i) for i in range(SIZES[name])]

    def _row(self, i: int) -> Row:
        answer = " ".join(WORDS[(i * 3 + self.shift + j) % len(WORDS)] for j in range(1 + i % 3))
        picture = Image.new("RGB", (48, 48), ((37 * i) % 256, (91 * i + 50 * self.shift) % 256, 128))
        question = " ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + i % 4))
        bare = self.text and i % 3 == 0
        user = [*([] if bare else [{"type": "image"}]), {"type": "text", "text": question}]
        return Row(
            id=f"toy-{self.shift}-{i}",
            messages=[
                {"role": "user", "content": user},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ],
            images=[] if bare else [picture],
            gold=answer,
        )

    def fingerprint(self) -> str:
        return f"toy-{self.shift}-{self.text}"


def toy_task(name: str, shift: int, text: bool = False, **options: Any) -> Task:
    return Task(name=name, source=ToySource(shift, text), scorer=exact_match, max_new_tokens=4, **options)


def toy_data(**options: Any) -> TaskSequenceDataModule:
    """Two targets, the second with a recipe of its own, and one held-out task; 8 samples a step, a short last step."""
    tasks = [toy_task("first", 0), toy_task("second", 1, recipe="mlp_gate_up")]
    return TaskSequenceDataModule(tasks, [toy_task("held", 2)], **{"batch_size": 8, **options})


def toy_module(path: Path, run: Path, **options: Any) -> ContinualLMM:
    return ContinualLMM(
        str(path), run=run, **{"recipe": "sa_proj", "lr": 1e-2, "checkpoint_every_n_steps": 1, **options}
    )


def toy_trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "gradient_clip_val": 1.0,
            **quiet,
            **options,
        }
    )
