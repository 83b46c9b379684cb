"""CUB-200: 26 lettered species, drawn from a stated seed."""

from collections import Counter
from pathlib import Path

from lmmcl.tasks.cub200 import draw_options
from lmmcl.tasks.question import LETTER_PROMPT
from lmmcl.tasks.species import SPECIES
from tests.tasks.rows import rows, text

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_training_asks_gives_the_instruction_and_then_the_options(root: Path) -> None:
    row = rows("cub200", "train", root)[0]
    assert text(row) == (
        "Which species of bird does this picture show?\n"
        "Answer with the option's letter from the given choices directly.\n"
        "A. Forsters Tern\nB. Black throated Blue Warbler\nC. Horned Lark\nD. Magnolia Warbler\n"
        "E. Henslow Sparrow\nF. White crowned Sparrow\nG. Western Wood Pewee\nH. House Sparrow\n"
        "I. Yellow headed Blackbird\nJ. Bohemian Waxwing\nK. Fox Sparrow\nL. Northern Waterthrush\n"
        "M. Clay colored Sparrow\nN. Marsh Wren\nO. Geococcyx\nP. Kentucky Warbler\n"
        "Q. Brown Creeper\nR. Black footed Albatross\nS. Pigeon Guillemot\nT. Cape May Warbler\n"
        "U. Western Gull\nV. Great Crested Flycatcher\nW. Mallard\nX. Red headed Woodpecker\n"
        "Y. Savannah Sparrow\nZ. Ringed Kingfisher"
    )
    assert (row.answer, row.gold) == ("R", "R")


def test_evaluation_asks_the_study_s_question_and_repeats_the_instruction_on_a_line_of_its_own(
    root: Path,
) -> None:
    row = rows("cub200", "test", root)[1]
    lines = text(row).split("\n")
    assert lines[:2] == ["What type of bird is depicted in this photograph?", LETTER_PROMPT]
    assert lines[-2].startswith("Z. ")
    assert lines[-1] == LETTER_PROMPT
    assert (row.answer, row.gold) == ("F", "F")
    assert lines[2:-1] == [
        f"{letter}. {name}" for letter, name in zip(LETTERS, row.meta["options"], strict=True)
    ]


def test_dev_asks_drawn_options_as_test_does(root: Path) -> None:
    for row in rows("cub200", "dev", root):
        assert text(row).endswith(f"\n{LETTER_PROMPT}")
        assert row.id.startswith("train-")


def test_a_row_has_26_different_options_and_the_right_one_stands_at_its_letter(root: Path) -> None:
    for row in rows("cub200", "train", root):
        assert len(set(row.meta["options"])) == 26
        assert set(row.meta["options"]) <= set(SPECIES)
        assert row.meta["options"][LETTERS.index(row.gold)] == row.meta["species"]


def test_the_right_species_is_that_of_the_picture_s_label(root: Path) -> None:
    for row in rows("cub200", "train", root):
        assert row.meta["species"] == SPECIES[int(row.id.removeprefix("train-")) * 37 % 200]


def test_the_draw_depends_on_the_seed_and_the_row_alone() -> None:
    first = draw_options("Bobolink", 7)
    assert draw_options("Bobolink", 7) == first
    assert draw_options("Bobolink", 8) != first
    assert draw_options("Bobolink", 7, seed=1) != first


def test_letters_and_others_are_drawn_evenly() -> None:
    draws = [draw_options(SPECIES[number % 200], number) for number in range(5200)]
    letters = Counter(place for _, place in draws)
    assert set(letters) == set(range(26))
    assert max(abs(count - 200) for count in letters.values()) < 5 * 200**0.5
    seen = Counter(name for options, _ in draws for name in options)
    assert set(seen) == set(SPECIES)
    assert max(abs(count - 676) for count in seen.values()) < 5 * 676**0.5


def test_there_are_200_species() -> None:
    assert len(set(SPECIES)) == 200
    assert (SPECIES[0], SPECIES[20], SPECIES[199]) == (
        "Black footed Albatross",
        "Eastern Towhee",
        "Common Yellowthroat",
    )
