"""One broken model for all tests of the audit."""

from pathlib import Path

import pytest

from tests.audit.broken import Broken, moved_copy, write_data


@pytest.fixture(scope="session")
def broken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """The tiny model, a copy that was broken in two groups, and what each of them knows."""
    folder = tmp_path_factory.mktemp("broken")
    tuned = moved_copy(tiny, folder / "tuned", {"llm.mlp.up": 0.02, "llm.attn.v": 0.005})
    data = write_data(folder, {"new": tuned, "held": tiny}, critical=range(32))
    return Broken(tiny, tuned, data)
