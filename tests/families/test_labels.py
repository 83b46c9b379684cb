"""In every family labels are the answers and their ends, behind the very prompt that generation reads."""

import torch

from lmmcl.data.batches.batch import IGNORED
from lmmcl.data.batches.template import text_of
from tests.families.conftest import Kit


def learned(kit: Kit, labels: torch.Tensor | None) -> str:
    assert labels is not None
    return str(kit.processor.tokenizer.decode(labels[labels != IGNORED]))


def test_labels_decode_to_exactly_the_answers_and_their_ends(kit: Kit) -> None:
    for make in kit.shapes:
        row = make("row")
        answers = [text_of(message).strip() for message in row.messages if message["role"] == "assistant"]
        labels = kit.collator.train([row]).labels
        text = learned(kit, labels)
        # The templates of LLaVA-1.5 and its kin end no turn: only the last answer gets the end of text.
        ends = text.count(kit.family.end)
        assert ends == (1 if kit.family.end == "</s>" and kit.family.name != "mistral3" else len(answers))
        assert text.replace(kit.family.end, " ").split() == " ".join(answers).split()
        assert text.endswith(answers[-1] + kit.family.end)


def test_what_stands_before_the_last_answer_is_the_prompt_that_generation_reads(kit: Kit) -> None:
    for make in kit.shapes:
        row = make("row")
        prompt = kit.collator.prompts([row]).inputs["input_ids"][0]
        full = kit.collator.train([row])
        assert torch.equal(full.inputs["input_ids"][0, : len(prompt)], prompt)
        assert full.labels is not None
        assert full.labels[0, len(prompt)] != IGNORED


def test_a_row_gives_the_same_tokens_and_labels_whoever_is_beside_it(kit: Kit) -> None:
    rows = [make(str(number), number) for number, make in enumerate(kit.shapes * 2)]
    together = kit.collator.train(rows)
    assert together.labels is not None
    for index, row in enumerate(rows):
        alone = kit.collator.train([row])
        assert alone.labels is not None
        mask = together.inputs["attention_mask"][index].bool()
        size = int(mask.sum())
        assert torch.equal(together.inputs["input_ids"][index][mask], alone.inputs["input_ids"][0, :size])
        assert torch.equal(together.labels[index][mask], alone.labels[0, :size])


def test_a_prompt_is_what_the_published_template_writes(kit: Kit) -> None:
    for make in kit.shapes:
        row = make("row")
        messages = [{**message, "content": list(message["content"])} for message in row.messages[:-1]]
        (text,) = kit.collator.template.prompts([row])
        if "strftime_now" in kit.processor.chat_template:  # the day is fixed, see lmmcl/quirks.py
            assert "2025-01-01" in text.text
        elif make.__name__ in ("one", "several"):
            written = kit.processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            assert text.text == written
