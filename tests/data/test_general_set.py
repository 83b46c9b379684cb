"""A general set in every form that a task has."""

import json
from pathlib import Path

import pytest

from lmmcl.data.general_set import GeneralSet, GeneralSpec
from lmmcl.errors import UserError
from lmmcl.world.tasks import HELD_OUT

KEY = "trainer.callbacks: DataMix.data"


def test_the_mini_model_s_own_mixtures_and_all_held_out_abilities_are_such_sets() -> None:
    names = ["general", "posters", *HELD_OUT]
    rows = GeneralSet(list(names), KEY).rows()
    assert len(rows) == 1_000_000 + 240_000 + 3840 * len(HELD_OUT)
    places = [0, 999_999, 1_000_000, 1_240_000, 1_240_000 + 3840, len(rows) - 1]
    owners = ["general", "general", "posters", HELD_OUT[0], HELD_OUT[1], HELD_OUT[-1]]
    assert [rows[place].id.partition("/")[0] for place in places] == owners


def test_files_are_such_a_set_and_a_draw_of_them_too(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"q{i}", "answer": "a"}) for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    spec = {"task": "mine", "path": str(tmp_path / "rows.jsonl")}
    whole = GeneralSet(spec, KEY)
    ids = [row.id for row in whole.rows()]
    assert len(set(ids)) == 20 and all(name.startswith("mine/") for name in ids)
    drawn = GeneralSet({**spec, "max_train_samples": 5}, KEY)
    found = [row.id for row in drawn.rows()]
    assert len(found) == 5 and set(found) < set(ids) and found == sorted(found, key=ids.index)
    assert found == [row.id for row in GeneralSet({**spec, "max_train_samples": 5}, KEY).rows()]
    assert drawn.fingerprint() != whole.fingerprint()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("generl", "general"),
        ([], "at least one task"),
        (["general", "general"], "general stands there 2 times"),
        ({"task": "general", "epochs": 2}, "epochs"),
        ({"task": "general", "lr": 1e-3}, "lr"),
    ],
)
def test_a_mistake_is_named_with_its_key(spec: GeneralSpec, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        GeneralSet(spec, KEY)
    assert str(caught.value).startswith(KEY)
