"""``lmmcl export``: writes a stage of a run as a Hugging Face folder."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.cli.quiet import quiet, quiet_libraries
from lmmcl.cli.words import CommandParser


def run(arguments: Sequence[str]) -> None:
    """Exports a stage and says what rounding took."""
    parser = CommandParser("lmmcl export", "Write a stage of a run as a Hugging Face folder.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument(
        "--stage", metavar="K", type=int, help="number of the stage, 0 for the base model [the last]"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 [the checkpoint's own]")
    parser.add_argument(
        "--max_shard_size", metavar="SIZE", default="5GB", help="split weights above it into files [5GB]"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in DIR")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that the base model brings"
    )
    words = parser.parse_args(list(arguments))
    quiet()
    from lmmcl.export.stage import export

    quiet_libraries()
    rounding = export(
        words.run,
        words.stage,
        words.to,
        words.dtype,
        words.overwrite,
        words.max_shard_size,
        words.trust_remote_code,
    )
    print(f"{words.to} ({rounding})")
