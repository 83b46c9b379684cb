"""The same questions after every stage, side by side: their answers and pictures in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from lmmcl.errors import UserError
from lmmcl.evaluation.probe_log import FOLDER
from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

ANSWERS = "answers.jsonl"
_QUALITY = 85


@dataclass(frozen=True)
class SampledAnswer:
    """One answer at one stage.

    Args:
        stage: 0 for the base model, k after the k-th task.
        name: of the stage, such as ``01-species``.
        task: the task's name.
        id: the row's.
        question: the text of its last question.
        gold: what the scorer compared the prediction with, in JSON's types.
        prediction: what the model said.
        score: from 0 to 1.
        picture: path of a small copy of the row's first picture, from the log's folder; None: it has none.
    """

    stage: int
    name: str
    task: str
    id: str
    question: str
    gold: Any
    prediction: str
    score: float
    picture: str | None


@dataclass(frozen=True)
class AnswerLog:
    """The folder ``probes/<name>/`` of a run: ``answers.jsonl`` and ``pictures/``. Call it on one process.

    Args:
        folder: of the log; `of` makes it.
    """

    folder: Path

    @classmethod
    def of(cls, run: Path, name: str) -> AnswerLog:
        """The log of the callback of this name."""
        return cls(run / FOLDER / name)

    def put(self, stage: int, answers: Sequence[SampledAnswer]) -> None:
        """Enters a stage's answers in place of those it may have; the same answers give the same bytes."""
        others = [answer for answer in self.read() if answer.stage != stage]
        ordered = sorted([*others, *answers], key=lambda answer: answer.stage)
        lines = (json.dumps(asdict(answer), sort_keys=True, ensure_ascii=False) for answer in ordered)
        self._write(self.folder / ANSWERS, "".join(f"{line}\n" for line in lines).encode())

    def picture(self, name: str, picture: Image.Image, size: int) -> str:
        """Writes a small copy of a picture unless it is there; its bytes depend on the picture alone.

        Args:
            name: of its file, without an ending.
            picture: RGB.
            size: most pixels of either side.

        Returns:
            its path from the folder.
        """
        path = f"pictures/{name}.jpg"
        if not (self.folder / path).exists():
            small = picture.copy()
            small.thumbnail((size, size))
            data = BytesIO()
            small.save(data, "JPEG", quality=_QUALITY)
            self._write(self.folder / path, data.getvalue())
        return path

    def read(self) -> list[SampledAnswer]:
        """All answers, by stage; none where nothing was written.

        Raises:
            UserError: the file is damaged.
        """
        path = self.folder / ANSWERS
        if not path.exists():
            return []
        try:
            lines = path.read_text("utf-8").split("\n")
            return [SampledAnswer(**json.loads(line)) for line in lines if line]
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it to go on without its answers."
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        with naming_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def read_answers(run: Path) -> dict[str, list[SampledAnswer]]:
    """All sampled answers of a run, by the name of the callback that wrote them."""
    paths = sorted((run / FOLDER).glob(f"*/{ANSWERS}"))
    return {path.parent.name: AnswerLog(path.parent).read() for path in paths}
