"""Features of training rows on a GPU, in bf16: the same bytes whether they are computed, found or have no room.

``python -m tests.benchmarks.gpu_checks.row_features`` on a machine with a GPU; how long epochs take then is told by
``python -m tests.benchmarks.training_features``.
"""

import sys
import tempfile
from pathlib import Path

import torch

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import LwF
from tests.tiny import tiny_checkpoint
from tests.toy import toy_module, toy_task, toy_trainer


def fit(folder: Path, name: str, kept: str, gigabytes: float = 1.0) -> bytes:
    """Weights after a task of three epochs."""
    task = toy_task("first", 0, text=True, epochs=3)
    data = TaskSequenceDataModule([task], batch_size=8, cache_features=kept, cache_features_gb=gigabytes)
    trainer = toy_trainer(callbacks=[LwF()], accelerator="gpu", precision="bf16-mixed", deterministic=True)
    trainer.fit(toy_module(folder / "model", folder / name), data)
    return (folder / name / "stages/01-first/weights.safetensors").read_bytes()


def main() -> int:
    if not torch.cuda.is_available():
        print("skipped: there is no GPU here")
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny_checkpoint(folder / "model")
        features = folder / "features"
        cold = fit(folder, "cold", str(features))
        if not list(features.iterdir()):
            print("FAILED: nothing is kept")
            return 1
        warm = fit(folder, "warm", str(features))
        small = fit(folder, "small", str(folder / "small"), 1e-5)
    if not cold == warm == small:
        print(f"FAILED: weights differ (found again: {warm != cold}, no room: {small != cold})")
        return 1
    print(
        f"features of rows on {torch.cuda.get_device_name()}: the same bytes computed, found and without room"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
