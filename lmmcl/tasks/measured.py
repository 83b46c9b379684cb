"""The rows of a task that the study only measures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubSource, HubTable, Make
from lmmcl.data.row import Row
from lmmcl.data.task import Part
from lmmcl.errors import UserError


class MeasuredSource(HubSource):
    """Hub data without training rows, which says so in the task's own name.

    Args:
        task: its name.
        parts: the table of ``test``, and of ``dev`` if it has one of its own; else dev is cut from test.
        make: makes a row, see `HubSource`.
        keep: which records count; None: all.
        root: folder of local copies; None: the hub.
        identity: what ``make`` depends on besides the records, such as the prompt.
    """

    def __init__(
        self,
        task: str,
        parts: Mapping[Part, HubTable],
        make: Make,
        *,
        keep: Callable[[Record], bool] | None = None,
        root: Path | None = None,
        identity: object = None,
    ) -> None:
        super().__init__(parts, make, keep=keep, root=root, identity=identity)
        self._task = task

    @override
    def split(self, name: Part) -> Sequence[Row]:
        if name == "train":
            raise UserError(
                f"data.tasks: {self._task} has no public training rows; measure it under data.held_out, or give it "
                f"rows of your own, {{task: {self._task}, train: rows.jsonl}}."
            )
        return super().split(name)
