"""``lmmcl merge``: merges tuned models with their base, tensor by tensor."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import CommandParser


def run(arguments: Sequence[str]) -> None:
    """Merges folders and says what moved."""
    quiet()
    from lmmcl.merge.folders import merge_folders, provenance
    from lmmcl.merge.methods import METHODS, SETTINGS, method_of, said, settings_of

    parser = CommandParser(
        "lmmcl merge",
        "Merge tuned models, or LoRA adapters, with the base they were tuned from, in the memory of a few tensors.",
    )
    parser.add_argument("base", metavar="BASE", help="the base model: a folder or hub id")
    parser.add_argument("tuned", metavar="TUNED", nargs="+", help="models tuned from it, or LoRA adapters")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--method", required=True, help=", ".join(METHODS))
    for name, setting in SETTINGS.items():
        defaults = ", ".join(f"{method} {held[name]:g}" for method, held in METHODS.items() if name in held)
        kind = int if name == "seed" else float
        parser.add_argument(f"--{name}", type=kind, metavar="X", help=f"{setting.text} [{defaults}]")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in DIR")
    words = parser.parse_args(list(arguments))
    given = {name: value for name in SETTINGS if (value := getattr(words, name)) is not None}
    settings = settings_of(words.method, given)
    merge = method_of(words.method, settings, len(words.tuned))
    told = provenance(words.base, words.tuned, words.method, settings)
    moved = merge_folders(words.base, words.tuned, words.to, merge, told, words.overwrite)
    names = [Path(name).name for name in words.tuned]
    print(f"{words.to} ({said(words.method, settings, len(names))}). {moved.sentence(names)}")
