"""Rows that are processed one by one make the processor's batch, and their pictures are found in it again."""

import pytest
import torch

from lmmcl.data.batches.apart import NotApartError, RowPictures, laid_together


def made(length: int, pictures: int, side: int = 4, shift: float = 0.0) -> dict[str, torch.Tensor]:
    """As LLaVA-NeXT's processor makes it: tiles and sizes beside tokens."""
    text = {
        "input_ids": torch.arange(1, length + 1)[None],
        "attention_mask": torch.ones(1, length, dtype=torch.long),
    }
    if not pictures:
        return text
    pixels = torch.arange(pictures * 3 * side * side, dtype=torch.float32).reshape(pictures, 3, side, side)
    sizes = torch.tensor([[side, side]] * pictures)
    types = torch.ones(1, length, dtype=torch.long)
    return {**text, "mm_token_type_ids": types, "pixel_values": pixels + shift, "image_sizes": sizes}


def test_tokens_are_padded_and_pictures_follow_each_other() -> None:
    rows = [made(3, 1, shift=1.0), made(5, 0), made(2, 2, side=6)]
    inputs, pictures = laid_together(rows, 9)
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 9, 9], [1, 2, 3, 4, 5], [1, 2, 9, 9, 9]]
    assert inputs["attention_mask"].sum(1).tolist() == [3, 5, 2]
    assert inputs["mm_token_type_ids"].sum(1).tolist() == [3, 0, 2]  # a row of text has none
    assert inputs["pixel_values"].shape == (3, 3, 6, 6)
    assert not inputs["pixel_values"][0, :, 4:].any()
    assert inputs["image_sizes"].tolist() == [[4, 4], [6, 6], [6, 6]]
    assert pictures[1] is None
    for row, found in zip(rows, pictures, strict=True):
        if found is not None:
            own = found.inputs(inputs)
            assert own.keys() == {"pixel_values", "image_sizes"}
            assert all(torch.equal(value, row[name]) and value.is_contiguous() for name, value in own.items())


def test_the_key_of_a_row_is_that_of_its_pictures_whatever_stands_beside_it() -> None:
    def key(row: dict[str, torch.Tensor], *others: dict[str, torch.Tensor]) -> str:
        found = laid_together([*others, row], 0)[1][-1]
        assert isinstance(found, RowPictures)
        return found.key

    one = key(made(3, 1))
    assert key(made(3, 1), made(5, 2, side=6)) == one
    assert key(made(7, 1)) == one  # the text is not in it
    assert key(made(3, 1, shift=1e-6)) != one
    assert key(made(3, 1, side=6)) != one
    reshaped = made(3, 1)
    reshaped["pixel_values"] = reshaped["pixel_values"].reshape(1, 3, 2, 8)
    assert key(reshaped) != one


@pytest.mark.parametrize("odd", [[[1, 2]], None, torch.tensor(1)])
def test_inputs_that_nothing_general_lays_together_are_named(odd: object) -> None:
    with pytest.raises(NotApartError, match="rows"):
        laid_together([{**made(3, 1), "rows": odd}, made(2, 1)], 0)
