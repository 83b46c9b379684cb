"""Writes a mixture of BASE and TUNED as a Hugging Face folder: the very weights that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmmcl.audit.audit import Audit, Auditor, Verdict
from lmmcl.errors import UserError
from lmmcl.evaluation.summary import Estimate
from lmmcl.export.hub_folder import describe, save
from lmmcl.loading import Checkpoint
from lmmcl.provenance import without_paths
from lmmcl.run.new_folder import check_new_folder, new_folder


def check_target(to: Path, models: Sequence[str]) -> None:
    """Raises UserError unless a folder can be made, or is empty; called before anything is measured."""
    check_new_folder(to, {model: Path(Checkpoint(model).location) for model in models}, None)


def repaired(audit: Audit) -> Verdict:
    """The verdict on the model that a repair writes.

    Raises:
        UserError: nothing was chosen, or nothing but the base itself keeps within the budget.
    """
    if audit.choice is None:
        why = next((note for note in audit.notes if "nothing is chosen at all" in note), None)
        raise UserError(
            f"--repair: {why}; give the held-out tasks rows for dev (split: {{dev: 0.3, test: 0.7}})."
            if why
            else "--repair: BASE and TUNED hold the same values; there is nothing to repair."
        )
    best = audit.best
    if best is None:
        raise UserError(
            f"--repair: no mixture keeps the held-out loss within {audit.budget:g} points (upper confidence bound on "
            "dev); only BASE itself does. Raise --budget, or measure on more rows for dev, which narrows the interval. "
            "Nothing was written."
        )
    return best


def write_repaired(auditor: Auditor, audit: Audit, to: Path) -> Verdict:
    """Writes the chosen mixture: weights as they were measured in TUNED's dtypes, TUNED's processor and configs.

    Args:
        auditor: holds the model.
        audit: what it found.
        to: folder to make.

    Returns:
        The verdict on what was written.

    Raises:
        UserError: see `repaired`; or the folder cannot be written.
    """
    verdict = repaired(audit)
    voice = auditor.two.voices["tuned"]
    with new_folder(to) as partial:
        model = auditor.speaker.as_stored(verdict.candidate)
        save(model, voice.generation, voice.fresh(), partial)
        describe(partial, _lineage(audit, verdict), _card(audit, verdict))
    return verdict


def _lineage(audit: Audit, verdict: Verdict) -> dict[str, object]:
    return {
        "base": without_paths(audit.base, "path"),
        "tuned": without_paths(audit.tuned, "path"),
        "put_back": dict(verdict.candidate.alphas),
        "budget": audit.budget if audit.budget != float("inf") else None,
    }


def _card(audit: Audit, verdict: Verdict) -> str:
    """The README.md of a repaired model."""
    base, tuned = (without_paths(name, "path") for name in (audit.base, audit.tuned))
    told = "nothing was put back" if verdict.candidate.kind == "tuned" else verdict.candidate.title
    lines = [f"| {group} | {alpha:g} |" for group, alpha in verdict.candidate.alphas]
    table = "\n".join(["| group | α |", "| --- | --- |", *lines, ""]) if lines else ""
    tasks = "\n".join(
        f"| {change.task} | {'target' if change.target else 'held-out'} | {change.before:.1f} | {change.after:.1f} | "
        f"{_told(change.change)} |"
        for change in verdict.tasks
    )
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [lmmcl, model-merge]
---

# {str(tuned).rpartition("/")[2]}, repaired

`{tuned}`, interpolated towards `{base}` by `lmmcl audit --repair` ({told}): θ = θ_base + (1 − α)(θ_tuned − θ_base),
summed in fp32. No training. What was put back was chosen on rows of their own (dev) so that the upper confidence
bound of the held-out loss stays within {audit.budget:g} points. The licence of the base model holds.

{table}
Measured on rows that chose nothing (test); points from 0 to 100, 95 % intervals by a paired bootstrap over examples:
held-out change {_told(verdict.held_out)}{f", learning {_told(verdict.learning)}" if verdict.learning else ""}.

| task | role | base | repaired | change |
| --- | --- | --- | --- | --- |
{tasks}
"""


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}]"
