"""Model Tailor along a sequence: few values change, and they do more for a layer's output than their own changes."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.callbacks import ModelTailor
from lmmcl.errors import UserError
from lmmcl.merge.layer_inputs import second_moments
from lmmcl.probing.calibration import draw_rows
from tests.callbacks.laws import law_fit


class Moments(StageCallback):
    """Measures layers' inputs at the end of the first task in two ways, and keeps what the task changed."""

    def __init__(self) -> None:
        super().__init__()
        self.start: dict[str, Tensor] = {}
        self.end: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}
        self.slow: dict[str, Tensor] = {}

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.start = self.start or {n: p.detach().clone() for n, p in module.trained_parameters().items()}

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.end:
            return
        parameters = module.trained_parameters()
        self.end = {name: p.detach().clone() for name, p in parameters.items()}
        paths = [name.removesuffix(".weight") for name, p in parameters.items() if p.dim() == 2]
        rows = draw_rows(module, module.data.train_rows(0), 4, "Model Tailor")
        self.moments = second_moments(module, rows, paths)
        seen: dict[str, list[Tensor]] = {path: [] for path in paths}
        for path in paths:
            layer = module.model.get_submodule(path)
            assert isinstance(layer, nn.Linear)
            keep = seen[path]
            layer.register_forward_hook(
                lambda _, given, __, keep=keep: keep.append(given[0].detach().clone())
            )
        with torch.no_grad():
            module.model.eval()
            for row in rows:
                module.model(**module.data.collator.train([row]).inputs)
            module.model.train()
        for path, inputs in seen.items():
            tokens = torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])
            self.slow[path] = sum((torch.outer(x, x) for x in tokens), torch.zeros(()))
            module.model.get_submodule(path)._forward_hooks.clear()


def test_few_values_change_and_a_layer_answers_more_like_the_tuned_one(tiny: Path, tmp_path: Path) -> None:
    seen = Moments()
    law_fit(tiny, tmp_path, [seen, ModelTailor(keep=0.1, samples=4, damping=1e-3, measure_before=False)])
    from tests.callbacks.laws import law_weights

    after = law_weights(tmp_path)["01-first"]
    better = 0
    for path, moments in seen.moments.items():
        torch.testing.assert_close(moments, seen.slow[path], rtol=1e-3, atol=1e-3)
        name = f"{path}.weight"
        change, patch = seen.end[name] - seen.start[name], after[name] - seen.start[name]
        count = int((patch != 0).sum())
        assert 0 < count <= round(0.1 * change.numel()) + 1
        masked = torch.where(patch != 0, change, 0.0)
        errors = [float(((d - change) @ moments * (d - change)).sum()) for d in (patch, masked)]
        better += errors[0] < errors[1]
    # Later layers are fitted to the inputs that patched layers give, not to these.
    assert better >= 0.75 * len(seen.moments) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 1.5}, r"ModelTailor.keep must lie in \[0, 1\], got 1.5"),
        ({"samples": 0}, r"ModelTailor.samples must be at least 1, got 0"),
        ({"damping": 0.0}, r"ModelTailor.damping must be above 0, got 0.0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelTailor(**arguments)  # type: ignore[arg-type]  # numbers, not names
