"""What cannot be loaded is one error with its way out."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from tests.tiny import tiny_checkpoint


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is there")
def test_a_processor_that_needs_torchvision_says_how_to_get_it(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model")
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_class": "Qwen2_5_VLProcessor"}))
    video = {"video_processor_type": "Qwen2VLVideoProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    with pytest.raises(UserError, match=r"model\.path: .* needs torchvision; pip install torchvision$"):
        Checkpoint(str(folder)).processor()


def test_a_checkpoint_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"model\.path: .* has no chat template"):
        Checkpoint(str(folder)).processor()
