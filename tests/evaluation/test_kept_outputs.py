"""What transformers' modules return is taken apart and put together again, without pickle."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from lmmcl.evaluation.kept_outputs import UnkeepableError, put_together, taken_apart


def test_an_output_comes_back_with_its_lists_tuples_and_types() -> None:
    features = torch.arange(24.0).reshape(4, 6)
    kind: Any = BaseModelOutputWithPooling
    output = kind(pooler_output=list(features.to(torch.bfloat16)), hidden_states=(features, None))
    tensors: dict[str, Tensor] = {}
    again: Any = put_together(taken_apart(output, tensors), tensors)
    assert type(again) is BaseModelOutputWithPooling
    pooled: Any = again.pooler_output
    kinds: list[Any] = [type(pooled), type(again.hidden_states)]
    assert kinds == [list, tuple]
    assert again.last_hidden_state is None
    for mine, other in zip(pooled, output.pooler_output, strict=True):
        assert mine.dtype == torch.bfloat16
        assert torch.equal(mine, other)
        assert mine.untyped_storage().nbytes() == 12  # not the whole of which it was a part


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", {"a": 1}])
def test_other_kinds_are_refused(value: Any) -> None:
    with pytest.raises(UnkeepableError, match=type(value).__name__):
        taken_apart([value], {})


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("antigravity", "x"), ("torch", "Tensor")])
def test_a_file_names_no_class_but_an_output_and_imports_nothing(module: str, name: str) -> None:
    with pytest.raises(UnkeepableError):
        put_together({"output": [module, name], "values": {}}, {})
    assert "antigravity" not in sys.modules
