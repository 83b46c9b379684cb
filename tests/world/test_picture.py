"""Pictures are functions of their parameters, and so is the split they belong to."""

from collections import Counter

import pytest

from lmmcl.world import clock, count, species, tissue, word
from lmmcl.world.mixed import FAMILIES
from lmmcl.world.picture import Picture
from lmmcl.world.stream import Stream

DRAWS = {
    **FAMILIES,
    **{module.__name__.rpartition(".")[2]: module.draw for module in (species, count, tissue, word, clock)},
}


def _pictures(name: str, number: int) -> list[Picture]:
    return [DRAWS[name](Stream("pictures", name, index)) for index in range(number)]


@pytest.mark.parametrize("name", DRAWS)
def test_a_picture_is_painted_the_same_twice(name: str) -> None:
    for picture in _pictures(name, 20):
        image = picture.image()
        assert image.size == (48, 48) and image.mode == "RGB"
        assert image.tobytes() == picture.image().tobytes()


@pytest.mark.parametrize("name", DRAWS)
def test_eight_tenths_of_the_pictures_are_for_training(name: str) -> None:
    counts = Counter(picture.split for picture in _pictures(name, 1000))
    assert set(counts) == {"train", "dev", "test"}
    assert 750 < counts["train"] < 850
    assert min(counts["dev"], counts["test"]) > 60


@pytest.mark.parametrize("name", DRAWS)
def test_equal_pixels_never_lie_in_two_splits(name: str) -> None:
    split_of: dict[bytes, str] = {}
    for picture in _pictures(name, 1500):
        assert split_of.setdefault(picture.image().tobytes(), picture.split) == picture.split


@pytest.mark.parametrize("name", DRAWS)
def test_the_right_answer_is_one_of_the_options_and_all_options_differ(name: str) -> None:
    for picture in _pictures(name, 100):
        for question in picture.questions:
            assert question.wordings and question.answer
            if question.options:
                assert question.answer in question.options
                assert len(set(question.options)) == len(question.options) > 1
