"""In every family the logits at the answer tokens are those of a plain forward, and few positions reach the head."""

import torch
from transformers import AutoModelForImageTextToText

from lmmcl.data.batches.batch import IGNORED
from lmmcl.outputs.forward import AnswerForward
from tests.families.conftest import Kit


def test_logits_at_the_answer_tokens_are_those_of_a_plain_forward(kit: Kit) -> None:
    batch = kit.collator.train([make(str(number), number) for number, make in enumerate(kit.shapes)])
    assert batch.labels is not None
    model = AutoModelForImageTextToText.from_pretrained(kit.path, dtype=torch.float32).eval()
    forwards = AnswerForward(model, bf16=False)
    with torch.no_grad():
        plain = kit.model(**batch.inputs).logits[:, :-1]
        outputs = forwards.token_outputs(batch)
        found = forwards.logits(outputs.hidden)
    learned = batch.labels[:, 1:] != IGNORED
    assert outputs.labels.tolist() == batch.labels[:, 1:][learned].tolist()
    assert len(outputs) == int(learned.sum()) < learned.numel() / 4
    torch.testing.assert_close(found, plain[learned], rtol=1e-5, atol=1e-5)
