"""PixMo-Count: how many things of one kind a photograph shows.

Training rows are allenai/pixmo-count, train, and dev its validation (``image_url``, ``image_sha256``, ``count``,
``points``, ``label``, as on its card). The data name their pictures by address and hash; ``lmmcl fetch pixmo_count``
fetches them before training. Test rows are the study's own, Jessemel/pixmocount-test (``image``, ``question``,
``answer``, a sentence, as the study's public code reads them). The answer taught is the number; the study's conversion
script writes the sentence.
"""

import hashlib
import re
from functools import partial
from pathlib import Path

from typing_extensions import override

from lmmcl.data.bad_row import RowError
from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.pictures.fetch import Wanted
from lmmcl.data.pictures.picture import PictureFile
from lmmcl.data.pictures.picture_store import picture_path
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import integer
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.pictures import pictures_folder
from lmmcl.tasks.question import question_row, without_place

DATASET = "allenai/pixmo-count"
TRAIN, DEV = HubTable(DATASET, "train"), HubTable(DATASET, "validation")
TEST = HubTable("Jessemel/pixmocount-test", "train")
PROMPT = "Answer with integer and nothing else."


def make_row(folder: Path, command: str, record: Record, number: int, part: Part) -> Row:
    """A row of the study's test data, or one of a label and a count.

    Args:
        folder: of the fetched pictures.
        command: fetches them, for the error.
        record: of the data.
        number: its place in its table.
        part: what the row is for; dev asks as test does.

    Raises:
        RowError: the picture was not fetched, or the test answer names no number.
    """
    if part == "test":
        question = without_place(record["question"])
        digits = re.search(r"\d+", str(record["answer"]))
        if digits is None:
            raise RowError(
                f"{TEST}, row {number}",
                f"the answer must name a number, got {record['answer']!r}; correct it.",
            )
        gold, picture = int(digits[0]), record["image"]
    else:
        question, gold = f"How many {record['label']} are in this image?", int(record["count"])
        where = f"{TRAIN if part == 'train' else DEV}, row {number}"
        picture = _picture(folder, command, record["image_sha256"], where)
    prompt = question if part == "train" else f"{question}\n{PROMPT}"
    return question_row(f"{part}-{number}", prompt, str(gold), picture, gold)


def _picture(folder: Path, command: str, sha256: str, where: str) -> PictureFile:
    path = picture_path(folder, sha256)
    if not path.is_file():
        raise RowError(
            where,
            f"its picture is not on disk ({path}); fetch what is missing by `{command}`; rows whose picture is gone "
            "from the web are left out by data.on_bad_row: drop.",
        )
    return PictureFile(path, where)


class CountSource(HubSource):
    """The rows of PixMo-Count, and the pictures they need.

    Args:
        root: folder of local copies, which also holds the fetched pictures; None: the hub, and the pictures in the
            hub's cache folder.

    Attributes:
        folder: of the fetched pictures.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.folder = pictures_folder(DATASET, root)
        command = "lmmcl fetch pixmo_count" + ("" if root is None else f" --root {root}")
        super().__init__(
            {"train": TRAIN, "dev": DEV, "test": TEST},
            partial(make_row, self.folder, command),
            root=root,
            identity=PROMPT,
        )

    @override
    def at(self, root: str | Path | None) -> "CountSource":
        return CountSource(None if root is None else Path(root))

    @override
    def fingerprint(self) -> str:
        """The data's, and which of their pictures are missing: rows without a picture may be left out."""
        there = {path.name for path in self.folder.glob("??/*")}
        missing = sorted({picture.sha256 for picture in self.wanted()} - there)
        return hashlib.sha256(f"{super().fingerprint()} {missing}".encode()).hexdigest()

    def wanted(self) -> list[Wanted]:
        """The pictures of train and dev, some of them several times."""
        pictures = []
        parts: tuple[Part, ...] = ("train", "dev")
        for part in parts:
            columns = self.table(part).columns(["image_url", "image_sha256"])
            pictures += [
                Wanted(url, sha256)
                for url, sha256 in zip(columns["image_url"], columns["image_sha256"], strict=True)
            ]
        return pictures


TASK = Task("pixmo_count", CountSource(), integer, 16, lmms_eval=SCORERS["pixmo_count"])
