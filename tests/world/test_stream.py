"""The stream of random numbers is a function of its key."""

from collections import Counter
from hashlib import blake2b

from lmmcl.world.stream import Stream


def test_the_numbers_are_the_words_of_the_keys_hash() -> None:
    block = blake2b(repr((3, "count", "train", 7)).encode(), salt=(0).to_bytes(8, "little")).digest()
    words = [int.from_bytes(block[start : start + 4], "little") for start in range(0, 64, 4)][::-1]
    stream = Stream(3, "count", "train", 7)
    assert [stream.below(1000) for _ in range(16)] == [word * 1000 >> 32 for word in words]


def test_a_stream_goes_on_after_its_first_block_without_repeating_it() -> None:
    stream = Stream("a")
    first, second = ([stream.below(60000) for _ in range(16)] for _ in range(2))
    assert first != second


def test_another_key_gives_other_numbers() -> None:
    assert [Stream(0, "a").below(60000) for _ in range(4)] != [Stream(1, "a").below(60000) for _ in range(4)]


def test_every_number_is_drawn_about_equally_often() -> None:
    stream = Stream("uniform")
    counts = Counter(stream.below(6) for _ in range(12000))
    assert set(counts) == set(range(6))
    assert all(1800 < count < 2200 for count in counts.values())


def test_a_sample_holds_different_items_of_the_list() -> None:
    stream = Stream("sample")
    for _ in range(200):
        taken = stream.sample("abcdef", 4)
        assert len(set(taken)) == 4 and set(taken) <= set("abcdef")


def test_a_weight_of_nothing_is_never_drawn() -> None:
    stream = Stream("weights")
    assert {stream.weighted((1, 0, 3)) for _ in range(300)} == {0, 2}
