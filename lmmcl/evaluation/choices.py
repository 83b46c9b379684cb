"""What mitigations chose by ``dev`` scores: ``choices/<name>.jsonl``, a line for each stage with all candidates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmmcl.agreement import agreed
from lmmcl.evaluation.processes import world
from lmmcl.run.checkpoint import write_atomically


@dataclass(frozen=True)
class Choice:
    """What was chosen at the end of one stage.

    Args:
        stage: its number, from 1.
        name: its folder, such as ``01-species``.
        chosen: position in ``candidates``, from 0.
        candidates: in the order in which they were measured; each has ``scores``, by task from 0 to 100, and what it is
            told by (``alpha``, ...).
    """

    stage: int
    name: str
    chosen: int
    candidates: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Choices:
    """The choices of one mitigation in a run folder.

    Args:
        run: the run folder.
        name: of the mitigation.
    """

    run: Path
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.run / "choices" / f"{self.name}.jsonl"

    def put(self, choice: Choice) -> None:
        """Writes a stage's choice, in place of an older one and all later ones; collective."""
        with agreed():
            if world()[0] == 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                rows = [*(row for row in self.read() if row.stage < choice.stage), choice]
                lines = (json.dumps(asdict(row), sort_keys=True, ensure_ascii=False) for row in rows)
                write_atomically(self.path, "".join(f"{line}\n" for line in lines).encode())

    def read(self) -> list[Choice]:
        """All choices, by stage; none where there is no file."""
        if not self.path.exists():
            return []
        return [Choice(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]


def read_choices(run: Path) -> dict[str, list[Choice]]:
    """The choices of every mitigation of a run, by its name."""
    return {path.stem: Choices(run, path.stem).read() for path in sorted((run / "choices").glob("*.jsonl"))}
