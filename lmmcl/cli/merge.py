"""``lmmcl merge``: merges tuned models with their base, tensor by tensor."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmmcl.cli.quiet import quiet, quiet_libraries
from lmmcl.cli.words import CommandParser
from lmmcl.errors import UserError

if TYPE_CHECKING:
    from lmmcl.merge.pieces import Merge


def run(arguments: Sequence[str]) -> None:
    """Merges folders and says what moved."""
    quiet()
    from lmmcl.building.freed_memory import keep_freed_memory
    from lmmcl.merge.folders import check_target, merge_folders, provenance
    from lmmcl.merge.methods import SETTINGS, WITH_ROWS, method_of, said, settings_of

    words = _parser().parse_args(list(arguments))
    given = {name: value for name in SETTINGS if (value := getattr(words, name)) is not None}
    settings = settings_of(words.method, given)
    told = provenance(words.base, words.tuned, words.method, settings)
    if words.method in WITH_ROWS:
        check_target(words.to, [words.base, *words.tuned], words.overwrite)
        merge = _with_rows(words, settings)
        told["data"] = words.data.name
    elif words.data is not None:
        raise UserError(
            f"--data is for --method {', '.join(WITH_ROWS)}; {words.method} needs no rows, remove it."
        )
    else:
        merge = method_of(words.method, settings, len(words.tuned))
    keep_freed_memory()  # of one piece, for the next
    moved = merge_folders(words.base, words.tuned, words.to, merge, told, words.overwrite)
    names = [Path(name).name for name in words.tuned]
    print(f"{words.to} ({said(words.method, settings, len(names))}). {moved.sentence(names)}")


def _parser() -> CommandParser:
    from lmmcl.merge.methods import ALL, SETTINGS

    parser = CommandParser(
        "lmmcl merge",
        "Merge tuned models, or LoRA adapters, with the base they were tuned from, in the memory of a few tensors.",
    )
    parser.add_argument("base", metavar="BASE", help="the base model: a folder or hub id")
    parser.add_argument("tuned", metavar="TUNED", nargs="+", help="models tuned from it, or LoRA adapters")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--method", required=True, help=", ".join(ALL))
    for name, setting in SETTINGS.items():
        defaults = ", ".join(f"{method} {held[name]:g}" for method, held in ALL.items() if name in held)
        kind = int if setting.whole else float
        parser.add_argument(f"--{name}", type=kind, metavar="X", help=f"{setting.text} [{defaults}]")
    parser.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="model_tailor: YAML with targets, as for lmmcl audit or lmmcl fit, on whose rows TUNED runs",
    )
    parser.add_argument(
        "--device", default="auto", help="model_tailor: where TUNED runs: auto, cpu, cuda, ... [auto]"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in DIR")
    return parser


def _with_rows(words: Namespace, settings: Mapping[str, float]) -> Merge:
    """The merge by a method that runs TUNED on rows."""
    from lmmcl.data.questions import read_questions
    from lmmcl.loading import device_of
    from lmmcl.merge.tailor_folders import PURPOSE, check_tuned, tailor_folders

    if words.data is None:
        raise UserError(
            f"--method {words.method} runs TUNED on rows of what it was tuned for: give --data FILE, a YAML with "
            "targets, for example targets: [{task: mine, path: rows.jsonl}]."
        )
    tuned = check_tuned(words.tuned)
    quiet_libraries()
    questions = read_questions(words.data, held_out_needed=False)
    rows = questions.calibration(int(settings["samples"]), int(settings["seed"]), PURPOSE)
    return tailor_folders(words.base, tuned, rows, settings, device_of(words.device))
