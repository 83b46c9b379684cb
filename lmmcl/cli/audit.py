"""``lmmcl audit``: what somebody's tuning did to a model, and what gives it back."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmmcl.cli.quiet import quiet, quiet_libraries
from lmmcl.cli.words import CommandParser
from lmmcl.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 100
_EPILOG = (
    "The YAML of --data lists targets, what the model was tuned for (may be empty), and held_out, what must not break, "
    "as lmmcl fit lists them; a config of lmmcl fit will do. What is put back is chosen on rows for dev and reported "
    "on rows for test. Nothing is trained. A row marked critical: true that flips gives exit code 3: of TUNED, or, "
    "with --repair, of what was written."
)


def run(arguments: Sequence[str]) -> int:
    """Audits a tuned model, prints, and writes tables and page.

    Returns:
        Exit code: 0, or 3 where a critical row flipped, in TUNED or, with ``--repair``, in what was written.
    """
    words = _parser().parse_args(list(arguments))
    _check(words)
    quiet()
    from rich.console import Console

    from lmmcl.audit import Auditor, read_questions, write_repaired
    from lmmcl.audit.files import write_files
    from lmmcl.audit.page import write_page
    from lmmcl.audit.repair import check_target
    from lmmcl.audit.tables import audit_report
    from lmmcl.cli.critical import critical_exit
    from lmmcl.loading import Checkpoint

    quiet_libraries()
    if words.to is not None:
        check_target(words.to, [words.base, words.tuned])
    questions = read_questions(words.data)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    with _Progress(console) as progress:
        auditor = Auditor(
            Checkpoint(words.base, words.base_revision, words.trust_remote_code),
            Checkpoint(words.tuned, words.tuned_revision, words.trust_remote_code),
            questions,
            words.run,
            words.batch_size,
            words.precision,
            words.device,
            progress.report,
        )
        console.print(f"{words.base} against {words.tuned}: {auditor.plan(not words.compare_only)}")
        audit = auditor.run(words.budget, not words.compare_only)
    write_files(audit, words.run)
    page = write_page(audit, questions, words.run)
    console.print(audit_report(audit))
    verdict = audit.verdict
    if words.repair:
        verdict = write_repaired(auditor, audit, words.to)
        console.print(f"{words.to}: {verdict.candidate.title}")
    elif audit.best is not None and audit.best.candidate.kind != "tuned":
        console.print("write it: the same command with --repair --to FOLDER", style="dim")
    console.print(f"page: {page}; tables beside it", style="dim", soft_wrap=True)
    return critical_exit(verdict.flips)


def _parser() -> CommandParser:
    parser = CommandParser(
        "lmmcl audit",
        "What tuning did to a model: gains and losses with intervals, answers that flipped, groups that moved, and the "
        "interpolation that gives most back.",
    )
    parser.epilog = _EPILOG
    parser.add_argument("base", metavar="BASE", help="the model before tuning: folder, hub id, or mini")
    parser.add_argument("tuned", metavar="TUNED", help="the model after it, or the folder of a peft adapter")
    parser.add_argument(
        "--data", metavar="FILE", type=Path, required=True, help="YAML of what both are asked"
    )
    parser.add_argument(
        "--run", metavar="DIR", type=Path, default=Path("audit"), help="folder of the results [audit]"
    )
    parser.add_argument(
        "--budget",
        metavar="POINTS",
        default="2",
        help="held-out loss that is allowed, its upper bound, in points [2]",
    )
    parser.add_argument(
        "--repair", action="store_true", help="write the mixture that keeps most within the budget"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, help="folder to make with --repair")
    parser.add_argument(
        "--compare_only",
        action="store_true",
        help="gains, flips and groups; do not look for what gives most back",
    )
    parser.add_argument("--batch_size", metavar="N", default="32", help="prompts answered at once [32]")
    parser.add_argument(
        "--precision", default="bf16-mixed", help="bf16-mixed, as a run measures, or 32-true [bf16-mixed]"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... [auto]")
    parser.add_argument("--base_revision", metavar="REV", help="branch, tag or commit of BASE on the hub")
    parser.add_argument("--tuned_revision", metavar="REV", help="branch, tag or commit of TUNED on the hub")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that a model brings"
    )
    return parser


def _check(words: Namespace) -> None:
    """Refuses what cannot be meant, and makes numbers of texts."""
    for name, place in (("BASE", words.base), ("TUNED", words.tuned)):
        if (Path(place) / "matrix.json").exists():
            raise UserError(
                f"{name}: {place} is the folder of a run: export the stage that you mean (lmmcl export {place} "
                "--stage K --to DIR) and give that folder."
            )
    given = words.budget
    try:
        words.budget = float(given)
    except ValueError:
        words.budget = math.nan
    if not words.budget >= 0:
        raise UserError(f"--budget must be a number of points from 0 (inf allows everything), got {given!r}.")
    if not words.batch_size.isdecimal() or int(words.batch_size) < 1:
        raise UserError(f"--batch_size must be a whole number from 1, got {words.batch_size!r}.")
    words.batch_size = int(words.batch_size)
    if words.precision not in ("bf16-mixed", "32-true"):
        raise UserError(f"--precision must be bf16-mixed or 32-true, got {words.precision!r}.")
    if words.repair and words.to is None:
        raise UserError("--repair needs the folder to make: --to DIR.")
    if words.to is not None and not words.repair:
        raise UserError("--to is the folder that --repair writes; add --repair, or remove it.")
    if words.repair and words.compare_only:
        raise UserError("--repair chooses what to put back, which --compare_only leaves out; remove one.")


class _Progress:
    """One line that says what is being measured, on terminals only."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._line = self._bar.add_task("loading both models", total=None)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def report(self, candidate: str, task: str, done: int, total: int) -> None:
        """Rows done of a task, asked of a candidate."""
        self._bar.update(self._line, description=f"{candidate}: {task}", completed=done, total=total)
