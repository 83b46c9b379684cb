"""CUB-200: which of 26 lettered species the bird is.

Training rows are made of CUB-200-2011's official train part, from bentrevett/caltech-ucsd-birds-200-2011 (columns
``image``, ``label`` with 200 names, ``bbox``, as its card says): the right species and 25 others. The study draws
them from an unseeded generator; here letter, others and wording depend on `SEED` and the row's number alone. Test rows
are the study's own, Jessemel/cub200-test (``image``, ``question`` with its options, ``answer``, as the study's public
code reads them). That code glues the instruction to the last option; here it has a line of its own.
"""

import hashlib

from lmmcl.data.files.records import Record
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.scorers import letter
from lmmcl.scorers.lmms_eval import SCORERS
from lmmcl.tasks.options import written_options
from lmmcl.tasks.question import LETTER_PROMPT, lettered, question_row, without_place
from lmmcl.tasks.species import SPECIES

SEED = 0
OPTIONS = 26
QUESTIONS = (
    "What species is the bird in this photo?",
    "Which species of bird does this picture show?",
    "What kind of bird can be seen in this image?",
    "Name the species of the bird in this photo.",
    "To which of these species does the bird belong?",
)


def draw_options(species: str, number: int, seed: int = SEED) -> tuple[list[str], int]:
    """The 26 options of a training row.

    Args:
        species: the right one.
        number: of the row in its table; with the seed it decides everything.
        seed: of the draw.

    Returns:
        The options in order, all different, and the place of the right one, 0 to 25.
    """
    numbers = _numbers(f"{seed} {number}", OPTIONS)
    others = [name for name in SPECIES if name != species]
    options = [others.pop(drawn % len(others)) for drawn in numbers[1:]]
    place = numbers[0] % OPTIONS
    options.insert(place, species)
    return options, place


def _numbers(key: str, count: int) -> list[int]:
    """Evenly drawn numbers of 64 bits, as many as asked for, always the same for one key."""
    stream = hashlib.shake_256(key.encode()).digest(8 * count)
    return [int.from_bytes(stream[start : start + 8]) for start in range(0, 8 * count, 8)]


def make_row(record: Record, number: int, part: Part) -> Row:
    """A row of the study's test data, or one with drawn options; dev asks as test does."""
    if part == "test":
        question, gold = without_place(record["question"]), record["answer"].strip().upper()
        prompt = f"{question}\n{LETTER_PROMPT}"
        written = {"options": written_options(question) or []}
        return question_row(f"test-{number}", prompt, gold, record["image"], gold, written)
    species = record["label"].partition(".")[2].replace("_", " ")  # of 001.Black_footed_Albatross
    options, place = draw_options(species, number)
    asked = QUESTIONS[_numbers(f"question {SEED} {number}", 1)[0] % len(QUESTIONS)]
    prompt = f"{asked}\n{LETTER_PROMPT}\n{lettered(options)}"
    if part == "dev":
        prompt += f"\n{LETTER_PROMPT}"
    gold = chr(ord("A") + place)
    drawn = {"options": options, "species": species}
    return question_row(f"train-{number}", prompt, gold, record["image"], gold, drawn)


TASK = Task(
    "cub200",
    HubSource(
        {
            "train": HubTable("bentrevett/caltech-ucsd-birds-200-2011", "train"),
            "test": HubTable("Jessemel/cub200-test", "train"),
        },
        make_row,
        identity=[SEED, QUESTIONS, LETTER_PROMPT],
    ),
    letter,
    16,
    lmms_eval=SCORERS["cub200"],
)
