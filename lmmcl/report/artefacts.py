"""What a run leaves behind for its reader: ``summary.json``, the report, its pictures and tables."""

from pathlib import Path

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.summary import Summary
from lmmcl.report.run_data import read_run
from lmmcl.report.run_summary import SUMMARY, load_summary, summary_of
from lmmcl.report.write_run import FIGURES, write_run_report
from lmmcl.run.checkpoint import as_json, write_atomically

__all__ = ["FIGURES", "load_summary", "summary_of", "write_artefacts"]


def write_artefacts(run: Path) -> Summary | None:
    """Writes a run's summary, report, pictures and tables; the same run gives the same bytes.

    What the run cost is left out of this report, because no two runs take the same time; ``lmmcl report`` says it.
    Held-out tasks that were not measured at every stage stand in the matrix alone: a change needs both ends.

    Args:
        run: its folder, with ``matrix.json`` and ``predictions/``.

    Returns:
        The summary; None if no stage after the base model was measured.
    """
    matrix = Matrix.load(run)
    if not matrix.finals:
        return None
    summary = summary_of(run, matrix)
    if summary is not None:
        write_atomically(run / SUMMARY, as_json(summary.to_dict()))
    write_run_report(read_run(run, summary=summary), costs=False)
    return summary
