"""Local copies of the study's hub data, made once for all tests of the tasks."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from tests.tasks.fixtures import write_fixtures

ROWS = 24


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for ``data.root`` with 24 rows of every split."""
    folder = tmp_path_factory.mktemp("hub")
    write_fixtures(folder, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield folder
