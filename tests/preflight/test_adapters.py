"""Adapters before there is a run: what they add and train is what the run adds and trains."""

from pathlib import Path

import pytest
import torch

from lmmcl.callbacks import LoRA, MoE, OLoRA
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.mitigation import Mitigation
from lmmcl.preflight.adapters import Adapted
from lmmcl.preflight.memory import Place, need_of
from lmmcl.preflight.timing import measure_pace
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import on_meta
from tests.callbacks.laws import law_data, law_fit
from tests.toy import toy_module


def adapted(tiny: Path, run: Path, recipe: str, *mitigations: Mitigation) -> Adapted:
    model = on_meta(Checkpoint(str(tiny)))
    return Adapted(toy_module(tiny, run, recipe=recipe), law_data(), model, Anatomy.of(model), mitigations)


def test_a_hollow_model_is_changed_as_a_run_changes_its_own(tiny: Path, tmp_path: Path) -> None:
    found = adapted(tiny, tmp_path, "sa_proj", LoRA(rank=4))
    module = law_fit(tiny, tmp_path, [LoRA(rank=4)], kill_at=0)
    assert found.anatomy.numel == {name: p.numel() for name, p in module.parameters_by_name().items()}
    tasks = [module.trained_by(task) for task in module.data.tasks]
    assert [names.keys() for names in found.trained] == [names.keys() for names in tasks]
    assert set(found.trained[1].values()) == {"llm.mlp.gate", "llm.mlp.up"}
    first = next(iter(found.trained[0]))
    assert found.anatomy.layer_of(first) == 0 and found.anatomy.group_of(first) == "llm.attn.q"
    need = need_of(found.anatomy, None, found.trained, 4, Place(), None)
    most = sum(found.anatomy.numel[name] for name in found.trained[2])
    assert (need.gradients, need.optimizer) == (4 * most, 8 * most)


def test_copies_of_mlps_are_counted_beside_them(tiny: Path, tmp_path: Path) -> None:
    assert adapted(tiny, tmp_path, "mlp", MoE()).mlps == 2
    assert adapted(tiny, tmp_path, "mlp", LoRA(rank=4)).mlps == 1


def test_a_mitigation_without_adapters_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    model = on_meta(Checkpoint(str(tiny)))
    found = adapted(tiny, tmp_path, "sa_proj", Mitigation())
    assert found.added == 0
    assert found.anatomy == Anatomy.of(model)


def test_a_recipe_that_cannot_be_adapted_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OLoRA adapts linear layers only"):
        adapted(tiny, tmp_path, "full", OLoRA())


def test_a_task_is_timed_with_its_own_adapters(tiny: Path, tmp_path: Path) -> None:
    method = LoRA(rank=4)
    adapted(tiny, tmp_path, "sa_proj", method)  # the hollow model comes first
    place = Place(bf16=False, callbacks=[method])
    pace = measure_pace(toy_module(tiny, tmp_path), law_data(), place, torch.device("cpu"), 2)
    assert all(pace.steps[name] > 0 for name in ("first", "second", "third"))
