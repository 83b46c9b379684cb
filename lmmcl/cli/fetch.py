"""``lmmcl fetch``: fetches the pictures of a task whose data name them by address."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import CommandParser
from lmmcl.errors import UserError


def run(arguments: Sequence[str]) -> None:
    """Fetches what is missing and says what could not be had."""
    parser = CommandParser(
        "lmmcl fetch",
        "Fetch the pictures that a task's data name by address. What is there is not fetched again.",
    )
    parser.add_argument("task", metavar="TASK", help="for example pixmo_count")
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="folder of local copies, as data.root [the hub's cache]"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=16, help="requests at a time [16]")
    parser.add_argument("--per_host", metavar="N", type=int, default=4, help="of them to one host [4]")
    parser.add_argument("--attempts", metavar="N", type=int, default=4, help="requests per picture [4]")
    parser.add_argument("--timeout", metavar="S", type=float, default=20.0, help="longest silence, s [20]")
    words = parser.parse_args(list(arguments))
    quiet()
    from lmmcl.data.pictures.fetch import fetch
    from lmmcl.data.pictures.manners import Manners
    from lmmcl.tasks import TASKS
    from lmmcl.tasks.pictures import Fetchable

    sources = {name: task.source for name, task in TASKS.items() if isinstance(task.source, Fetchable)}
    if words.task not in sources:
        raise UserError(
            f"fetch: {words.task} names no task whose pictures are fetched, these are {', '.join(sources)}; the "
            "data of every other task bring their pictures."
        )
    manners = Manners(words.threads, words.per_host, words.timeout, attempts=words.attempts)
    source = sources[words.task].at(words.root)
    try:
        result = fetch(source.wanted(), source.folder, manners, _Counter())
    except KeyboardInterrupt:
        print("lmmcl: interrupted; the same command goes on with what is missing.", file=sys.stderr)
        raise SystemExit(130) from None
    total = result.fetched + result.present + len(result.failures)
    print(
        f"{words.task}: {total} pictures, {result.fetched} fetched, {result.present} were there, "
        f"{len(result.failures)} cannot be had. They lie in {source.folder}."
    )
    if result.failures:
        print(
            f"What cannot be had is listed in {result.listed}; the rows that need it are left out by "
            "data.on_bad_row: drop. The same command asks for them again."
        )


class _Counter:
    """One line a second on the terminal, one in a minute in a file."""

    def __init__(self) -> None:
        self._every = 1.0 if sys.stderr.isatty() else 60.0
        self._last = time.monotonic()

    def __call__(self, done: int, failed: int, total: int) -> None:
        if done == total or time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            print(f"fetched {done - failed} of {total}, {failed} failed", file=sys.stderr, flush=True)
