"""The rows of the study's tasks, made of the local copies."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.data.hub.source import HubSource
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.task import Part
from lmmcl.tasks import TASKS


def source(name: str, root: Path) -> HubSource:
    found = TASKS[name].source
    assert isinstance(found, HubSource)
    return found.at(root)


def rows(name: str, part: Part, root: Path) -> Sequence[Row]:
    return source(name, root).split(part)


def pixels(row: Row) -> list[bytes]:
    return [open_picture(image, row.id).tobytes() for image in row.images]


def text(row: Row) -> str:
    return str(row.messages[0]["content"][-1]["text"])
