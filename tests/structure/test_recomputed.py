"""Which forwards a backward pass repeats, and what is kept for it, of a model loaded from disk."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.structure.recomputed import parts_of
from tests.toy import toy_data, toy_module, toy_task, toy_trainer
from tests.two_processes import Killed, KillerAtStep


class Look(KillerAtStep):
    """Runs something on the module at the first step, and ends the fit."""

    def __init__(self, look: Any) -> None:
        super().__init__(0)
        self.look = look

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.look(pl_module)
        raise Killed


def look_at(checkpoint: Path, run: Path, look: Any, recipe: Any, **options: Any) -> None:
    data = TaskSequenceDataModule([toy_task("one", 0, recipe=recipe)], batch_size=8)
    with pytest.raises(Killed):
        toy_trainer(callbacks=[Look(look)]).fit(toy_module(checkpoint, run, **options), data)


def backward(module: ContinualLMM) -> None:
    data = toy_data()
    data.attach(module.processor, None)
    batch = data.collator.train(data.train_rows(0)[:4]).to(module.device)
    module.token_outputs(batch).hidden.sum().backward()


def forwards(checkpoint: Path, run: Path, recipe: Any, setting: Any) -> Counter[str]:
    """Forwards of the attention of every layer in a forward and a backward."""
    counts: Counter[str] = Counter()

    def look(module: ContinualLMM) -> None:
        parts = {"vision": module.anatomy.vision_blocks, "llm": module.anatomy.decoder_layers}
        for part, paths in parts.items():
            for place, path in enumerate(paths):
                attention = module.model.get_submodule(path).get_submodule("self_attn")
                attention.register_forward_pre_hook(lambda *_, key=f"{part} {place}": counts.update([key]))
        backward(module)

    look_at(checkpoint, run, look, recipe, activation_checkpointing=setting)
    return counts


@pytest.mark.parametrize(
    ("recipe", "setting", "vision", "llm"),
    [
        ("full", False, [1, 1], [1, 1]),
        ("full", True, [2, 2], [2, 2]),
        ("full", ["llm"], [1, 1], [2, 2]),
        ("full", ["vision"], [2, 2], [1, 1]),
        ("sa_proj", True, [1, 1], [2, 2]),
        ({"train": "mlp", "layers": "1:"}, True, [1, 1], [1, 2]),
    ],
    ids=str,
)
def test_only_what_a_gradient_passes_is_computed_again(
    recipe: Any, setting: Any, vision: list[int], llm: list[int], tiny: Path, tmp_path: Path
) -> None:
    counts = forwards(tiny, tmp_path / "run", recipe, setting)
    found = {part: [counts[f"{part} {place}"] for place in range(2)] for part in ("vision", "llm")}
    assert found == {"vision": vision, "llm": llm}


def test_a_frozen_prefix_keeps_no_activation_and_gets_no_gradient(tiny: Path, tmp_path: Path) -> None:
    kept: Counter[str] = Counter()
    gradients: dict[str, bool] = {}

    def look(module: ContinualLMM) -> None:
        inside: list[str] = []
        paths = [*module.anatomy.vision_blocks, *module.anatomy.decoder_layers]

        def leave(path: str, output: Any) -> None:
            inside.pop()
            first = output[0] if isinstance(output, tuple) else output
            gradients[path] = first.requires_grad

        for path in paths:
            layer = module.model.get_submodule(path)
            layer.register_forward_pre_hook(lambda *_, path=path: inside.append(path))
            layer.register_forward_hook(lambda layer, given, output, path=path: leave(path, output))

        def pack(tensor: Tensor) -> Tensor:
            kept.update([inside[-1] if inside else "outside"])
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            backward(module)
        *frozen, last = paths
        assert [path for path in frozen if kept[path] or gradients[path]] == []
        assert kept[last] > 5 and gradients[last]

    look_at(tiny, tmp_path / "run", look, {"train": "mlp", "layers": "1:"})
    assert kept


def test_true_is_every_part_and_false_is_none() -> None:
    assert parts_of(True) == {"vision", "llm"} and parts_of(False) == set() and parts_of(["llm"]) == {"llm"}
