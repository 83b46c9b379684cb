"""A model's folder holds all that transformers asks for, whatever its generation config says."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmmcl.errors import UserError
from lmmcl.export.hub_folder import check_shard_size, generation_of, save
from lmmcl.loading import Checkpoint
from lmmcl.world.mini import write_skeleton


def test_new_weights_get_the_generation_config_of_their_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(write_skeleton(tmp_path / "old")), from_scratch=True)
    model = checkpoint.model(False, 0)
    save(model, generation_of(checkpoint, model), checkpoint.processor(), tmp_path / "new")
    written = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert {"do_sample": False, "max_new_tokens": 32}.items() <= written.items()


def test_a_checkpoint_without_a_generation_config_gets_what_its_model_says(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(write_skeleton(tmp_path / "old")), from_scratch=True)
    (tmp_path / "old" / "generation_config.json").unlink()
    model: Any = checkpoint.model(False, 0)
    assert generation_of(checkpoint, model) is model.generation_config


@pytest.mark.parametrize("size", ["5", "0GB", "5 GB", "5gb", "5TB"])
def test_a_size_that_transformers_does_not_write_is_named(size: str) -> None:
    with pytest.raises(
        UserError, match=f"--max_shard_size must be a size such as 5GB or 500MB, got '{size}'"
    ):
        check_shard_size(size)
    check_shard_size("500MiB")
