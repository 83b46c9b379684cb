"""Compares every score of the lmms-eval mode with lmms-eval's own, prediction by prediction.

    PYTHONPATH=<unpacked wheel of lmms_eval 0.7.3> python -m tests.benchmarks.lmms_eval_parity [predictions per task]

The reference is run whole: its task is built from its own YAML on a row made up here, its filters and its
``process_results`` see the prediction. Of what it imports, evaluate, loguru, sacrebleu and tenacity are not lmmcl's own
needs. Where something is missing, the script says so and ends.
"""

import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from lmmcl.scorers.lmms_eval import REFERENCE_VERSION, SCORERS
from tests.scorers.adversarial import Case, cases

# Our task -> the reference's YAML, and how its results become one number.
TASKS: dict[str, tuple[str, Callable[[Any, dict[str, Any]], float]]] = {
    "ai2d": ("ai2d/ai2d.yaml", lambda task, found: float(found["exact_match"])),
    "chartqa": ("chartqa/chartqa.yaml", lambda task, found: float(found["relaxed_overall"])),
    "docvqa": ("docvqa/docvqa_val.yaml", lambda task, found: float(found["anls"])),
    "infovqa": ("infovqa/infovqa_val.yaml", lambda task, found: float(found["anls"])),
    "mmstar": ("mmstar/mmstar.yaml", lambda task, found: float(found["average"]["score"])),
    "ocrbench": ("ocrbench/ocrbench.yaml", lambda task, found: float(found["ocrbench_accuracy"]["score"])),
    "realworldqa": ("realworldqa/realworldqa.yaml", lambda task, found: float(found["exact_match"])),
    "scienceqa": ("scienceqa/scienceqa_img.yaml", lambda task, found: float(found["exact_match"])),
    "seedbench": (
        "seedbench/seedbench.yaml",
        lambda task, found: float(task.aggregation()["seed_image"]([found["seed_image"]])),
    ),
    "text_vqa": ("textvqa/textvqa_val.yaml", lambda task, found: float(found["exact_match"])),
}


def reference(task: str, example: Case) -> Callable[[Case], float]:
    """The reference's own score of a case, by its task built from its own YAML on the example's row."""
    from datasets import Dataset, DatasetDict

    folder = Path(str(import_module("lmms_eval").__path__[0])) / "tasks"
    path, number = TASKS[task]
    config = import_module("lmms_eval.utils").load_yaml_config(yaml_path=str(folder / path))
    original = import_module("lmms_eval.api.task").ConfigurableTask
    instance = import_module("lmms_eval.api.instance").Instance

    class Local(original):  # type: ignore[misc, valid-type]  # its base is known when it runs
        """The task on one row that is already here."""

        def download(self, dataset_kwargs: Any = None) -> None:
            rows = Dataset.from_list([example.doc])
            self.dataset = DatasetDict({config["test_split"]: rows})
            self.dataset_no_image = self.dataset

    built = Local(config=config)

    def score(case: Case) -> float:
        identity = {"task": task, "doc_id": 0, "repeats": 1}
        request = instance("generate_until", (), 0, identity, resps=[case.prediction])
        for filters in built._filters:
            filters.apply([request], [case.doc])
        (name,) = request.filtered_resps
        doc = {key: list(value) if isinstance(value, list) else value for key, value in case.doc.items()}
        return number(built, built.process_results(doc, [request.filtered_resps[name]]))

    return score


def compare(task: str, number: int) -> tuple[int, Counter[float], list[str]]:
    """How many predictions were compared, how often each score came, and what differed."""
    ours, theirs = SCORERS[task], reference(task, next(cases(task, 1)))
    seen: Counter[float] = Counter()
    different = []
    for case in cases(task, number):
        mine, original = ours(case.prediction, case.gold, case.meta).value, theirs(case)
        seen[round(original, 1)] += 1
        if mine != original:
            different.append(f"{case.prediction!r} for {case.gold!r}: {mine} here, {original} there")
    return number, seen, different


def missing() -> str | None:
    """Why the comparison cannot be made, or None."""
    try:
        import_module("lmms_eval.api.metrics")  # which registers them
        import_module("lmms_eval.api.task")
        found = metadata.version("lmms_eval")
    except (ImportError, metadata.PackageNotFoundError) as error:
        return f"lmms_eval {REFERENCE_VERSION} cannot be imported: {error}"
    return None if found == REFERENCE_VERSION else f"lmms_eval {found} is not {REFERENCE_VERSION}"


def main(number: int = 5000) -> int:
    """Prints task, predictions, how many of them score 0, 1 and between, and differences; 1 if there are any."""
    if reason := missing():
        print(f"skipped: {reason}")
        return 0
    print(
        f"{'task':12s} {'predictions':>11s} {'wrong':>6s} {'right':>6s} {'between':>7s} {'differences':>11s}"
    )
    total = 0
    for task in TASKS:
        compared, seen, different = compare(task, number)
        between = compared - seen[0.0] - seen[1.0]
        print(f"{task:12s} {compared:11d} {seen[0.0]:6d} {seen[1.0]:6d} {between:7d} {len(different):11d}")
        for line in different[:5]:
            print(f"    {line}")
        total += len(different)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
