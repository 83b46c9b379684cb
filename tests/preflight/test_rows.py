"""Tasks whose rows show nothing."""

from collections.abc import Sequence

from lmmcl.preflight.rows import check_rows
from lmmcl.preflight.scan import Rows, Scanned, Seen
from tests.toy import toy_task

BLIND, SEEING = Seen("a"), Seen("b", sizes=((4, 4),))
BROKEN = Seen("c", faults=(("pictures", "failure", "it cannot be decoded"),))


def warned(**tasks: Sequence[Seen]) -> list[str]:
    scanned = [
        Scanned(Rows(toy_task(name, 0), "train", []), [one]) for name, seen in tasks.items() for one in seen
    ]
    return [
        one.task for one in check_rows(scanned) if one.level == "warning" and "columns: {image" in one.text
    ]


def test_a_task_without_any_picture_is_a_warning() -> None:
    tasks = {"blind": [BLIND, BLIND], "seeing": [BLIND, SEEING], "broken": [BLIND, BROKEN]}
    assert warned(**tasks) == ["blind"]
