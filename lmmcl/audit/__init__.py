"""What somebody's tuning did to a model, and what gives it back: ``lmmcl audit``."""

from lmmcl.audit.audit import Audit, Auditor, Verdict
from lmmcl.audit.repair import write_repaired
from lmmcl.data.questions import Questions, read_questions

__all__ = ["Audit", "Auditor", "Questions", "Verdict", "read_questions", "write_repaired"]
