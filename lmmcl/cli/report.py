"""``lmmcl report``: what runs learned and forgot, as one page with its figures and tables."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.cli.quiet import quiet, quiet_libraries
from lmmcl.cli.words import CommandParser
from lmmcl.errors import UserError


def run(arguments: Sequence[str]) -> None:
    """Writes the report of a run, or of several side by side, and prints where."""
    parser = CommandParser(
        "lmmcl report",
        "Write what runs learned and forgot as one HTML page, with figures and tables beside it.",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folder of a run; several are compared"
    )
    parser.add_argument(
        "--to",
        metavar="FILE.html",
        type=Path,
        help="the page [report.html in the run's folder; report/report.html for several]",
    )
    words = parser.parse_args(list(arguments))
    quiet()
    if words.to is not None and words.to.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--to must be a file that ends in .html, got {words.to}.")
    quiet_libraries()
    print(_write(words.runs, words.to))


def _write(runs: Sequence[Path], to: Path | None) -> Path:
    if len(runs) == 1:
        from lmmcl.report.run_data import read_run
        from lmmcl.report.write_run import write_run_report

        return write_run_report(read_run(runs[0]), to, costs=True)
    from lmmcl.report.runs_data import read_runs
    from lmmcl.report.write_runs import write_runs_report

    return write_runs_report(read_runs(runs), to or Path("report") / "report.html")
