"""What would go wrong in a run, found before it: rows, masks, scorers, recipes, memory, disk, duplicates."""

from lmmcl.preflight.finding import Finding, failed, refuse
from lmmcl.preflight.run import cheap, check_all

__all__ = ["Finding", "cheap", "check_all", "failed", "refuse"]
