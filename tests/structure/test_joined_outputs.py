"""How outputs of rows make that of a batch, by an example."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from lmmcl.structure.joined_outputs import UnjoinableError, joint_of
from lmmcl.structure.picture_recording import tensors_in


@dataclass
class Deep(ModelOutput):
    """Features by picture, and by layer: a tuple that grows with the rows beside one that does not."""

    pooler_output: Any = None
    layers: Any = None
    plain: Any = None


def deep(*pictures: int) -> Deep:
    """Of pictures with so many tokens each, all different."""
    features = tuple(torch.full((tokens, 2), float(tokens)) for tokens in pictures)
    layers = [torch.cat([layer + one for one in features]) for layer in (10, 20, 30)]
    return Deep(features, layers, ("same", None))


@pytest.mark.parametrize("rows", [[(3, 4), (5,)], [(1,), (2,)], [(2, 3, 4), (5, 6, 7), (1, 8, 9)]])
def test_rows_make_the_batch_and_any_other(rows: list[tuple[int, ...]]) -> None:
    whole = deep(*(tokens for row in rows for tokens in row))
    joint = joint_of(whole, [deep(*row) for row in rows])
    for some in (rows, rows[:1], [*rows, (11, 12), (13,)]):
        made = joint([deep(*row) for row in some])
        wanted = deep(*(tokens for row in some for tokens in row))
        assert isinstance(made, Deep)
        assert len(made.pooler_output) == len(wanted.pooler_output)
        assert made.plain == wanted.plain
        assert all(torch.equal(a, b) for a, b in zip(tensors_in(made), tensors_in(wanted), strict=True))


def test_a_tensor_of_all_rows_is_put_together_along_its_first_dimension() -> None:
    parts = [torch.rand(2, 3), torch.rand(1, 3)]
    whole = BaseModelOutputWithPooling(pooler_output=torch.cat(parts))
    joint = joint_of(whole, [BaseModelOutputWithPooling(pooler_output=part) for part in parts])
    made = joint([BaseModelOutputWithPooling(pooler_output=part) for part in parts])
    assert torch.equal(made.pooler_output, torch.cat(parts))
    assert made.last_hidden_state is None


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (torch.zeros(3, 2), [torch.zeros(2, 2), torch.zeros(2, 2)]),
        (torch.zeros(4, 5), [torch.zeros(2, 5), torch.zeros(2, 4)]),  # padded to the longest
        (torch.zeros(()), [torch.zeros(()), torch.zeros(())]),
        ([1, 2, 3], [[1, 2], [1, 2]]),
        ((torch.zeros(2),), [[torch.zeros(1)], [torch.zeros(1)]]),
        (7, [7, 8]),
        (Deep(plain=None), [Deep(plain=1), Deep(plain=None)]),
    ],
)
def test_what_rows_do_not_make_is_refused(whole: Any, parts: list[Any]) -> None:
    with pytest.raises(UnjoinableError):
        joint_of(whole, parts)
