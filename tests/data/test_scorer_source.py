"""A scorer of the user's that was corrected is another scorer."""

import importlib
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from lmmcl.data.scorer_source import scorer_source
from lmmcl.data.task import Task
from lmmcl.data.task_fingerprint import task_fingerprint
from lmmcl.scorers import integer
from tests.toy import ToySource

CODE = (
    "from lmmcl.scorers import Score\n\ndef mine(said, gold, meta):\n    return Score(float(said {} gold))\n"
)


def test_the_code_of_ones_own_scorer_decides_and_that_of_lmmcls_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "scorer_of_a_user.py"
    found = []
    for place, sign in enumerate(("==", "in", "==")):
        file.write_text(CODE.format(sign))
        os.utime(file, (place, place))  # else its bytecode is taken for the same
        sys.modules.pop("scorer_of_a_user", None)
        importlib.invalidate_caches()
        mine = importlib.import_module("scorer_of_a_user").mine
        task = Task("t", ToySource(0), mine)
        found.append((scorer_source(partial(mine)), task.scored_by, str(task_fingerprint(task))))
    assert found[0] == found[2] and not set(found[0]) & set(found[1])
    assert scorer_source(integer) == scorer_source(partial(integer)) == scorer_source(len) == ""
    assert Task("t", ToySource(0), integer).scored_by == "lmmcl.scorers.integer.integer"
