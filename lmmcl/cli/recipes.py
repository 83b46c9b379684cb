"""``lmmcl recipes``: what each recipe would train in a model, and its memory."""

from collections.abc import Sequence

from lmmcl.cli.quiet import quiet, quiet_libraries
from lmmcl.cli.words import CommandParser


def run(arguments: Sequence[str]) -> None:
    """Prints groups and recipes of a model; no weights are read."""
    parser = CommandParser(
        "lmmcl recipes", "Show what each recipe would train in a model; no weights are read."
    )
    parser.add_argument("--model", metavar="PATH_OR_ID", required=True, help="folder, hub id, or mini")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that the model brings"
    )
    parser.add_argument("--recipe", help="one more recipe to show")
    words = parser.parse_args(list(arguments))
    quiet()
    from lmmcl.structure.recipe_table import print_recipes

    quiet_libraries()
    print_recipes(words.model, words.revision, words.trust_remote_code, words.recipe)
