"""In which families samples can be packed: there all is as in a padded batch; elsewhere an error comes in time."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.micro_batches import Layout
from lmmcl.data.batches.packing import pack
from lmmcl.errors import UserError
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.sequence.packing_proof import prove_packing
from tests.families.conftest import Kit

REFUSED = {
    "qwen3.5": "linear attention goes on from one sample into the next",
    "gemma3": "which tokens are a picture's is looked up by the position in the sample",
    "paligemma": "it reads prompts in both directions",
}


def packed(kit: Kit, batch: Batch, one: bool) -> Batch:
    return pack(batch, kit.processor.tokenizer.pad_token_id, one)


def stub(kit: Kit, forwards: AnswerForward, model: Any) -> Any:
    """As much of a `ContinualLMM` as the proof looks at."""
    return SimpleNamespace(
        bf16=False,
        model=model,
        device=torch.device("cpu"),
        token_outputs=forwards.token_outputs,
        inference=forwards.inference,
        free_gathered=forwards.free_gathered,
        data=SimpleNamespace(layout=Layout(packing=True), collator=kit.collator),
    )


def test_samples_are_read_packed_as_padded_or_refused_before_training(kit: Kit) -> None:
    model = AutoModelForImageTextToText.from_pretrained(
        kit.path, dtype=torch.float32, attn_implementation="eager"
    )
    forwards = AnswerForward(model, bf16=False)
    rows = [make(f"{turn}-{number}", number) for turn in range(2) for number, make in enumerate(kit.shapes)]
    module = stub(kit, forwards, model)
    if kit.family.name in REFUSED:
        with pytest.raises(UserError, match=r"data\.packing: .* Set data\.packing: false"):
            prove_packing(module, rows)
        return
    prove_packing(module, rows)
    assert not module.data.layout.one

    def run(batch: Batch) -> tuple[TokenOutputs, Tensor, dict[str, Tensor]]:
        model.zero_grad()
        outputs = forwards.token_outputs(batch, everywhere=True)
        loss = outputs.map(cross_entropy).mean()
        loss.backward()
        taken = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return outputs, loss.detach(), taken

    batch = kit.collator.train(rows)
    wanted, loss, gradients = run(batch)
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    for one in (True, False):
        outputs, packed_loss, found = run(packed(kit, batch, one))
        torch.testing.assert_close(packed_loss, loss, rtol=0, atol=1e-6)
        assert outputs.labels.tolist() == wanted.labels.tolist()
        assert outputs.samples.tolist() == wanted.samples.tolist()
        assert outputs.everywhere is not None and wanted.everywhere is not None
        assert outputs.everywhere.samples.tolist() == wanted.everywhere.samples.tolist()
        torch.testing.assert_close(outputs.everywhere.hidden, wanted.everywhere.hidden, rtol=1e-4, atol=1e-4)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6 * max(1, scale), msg=name)


def test_the_neighbours_of_a_packed_sample_change_nothing(kit: Kit) -> None:
    if kit.family.name in REFUSED:
        pytest.skip(REFUSED[kit.family.name])
    forwards = AnswerForward(
        AutoModelForImageTextToText.from_pretrained(
            kit.path, dtype=torch.float32, attn_implementation="eager"
        ).eval(),
        bf16=False,
    )
    first, *others = [make(str(number), number) for number, make in enumerate(kit.shapes)]
    found = []
    for around in ([first, others[0]], [others[-1], first], [others[0], first, others[-1]]):
        with torch.no_grad():
            outputs = forwards.token_outputs(
                packed(kit, kit.collator.train(around), True), everywhere=True
            ).everywhere
        assert outputs is not None
        found.append(outputs.hidden[outputs.samples == around.index(first)])
    for hidden in found[1:]:
        torch.testing.assert_close(hidden, found[0], rtol=1e-5, atol=1e-5)
