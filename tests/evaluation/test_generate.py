"""Greedy generation does not depend on the batch or on a checkpoint's taste for sampling."""

from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import end_tokens, generate, greedy_config, new_tokens
from lmmcl.evaluation.turn_ends import turn_ends
from tests.data.processors import CHATML_TOKENS, llava, simple

QUESTIONS = [
    "how many birds",
    "what",
    "what colour is the circle in the picture",
    "name the bird",
    "is there a cat",
]


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    # A random model hardly looks at its input: make it sensitive, and its answers differ.
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    # Several ends, as Llama and Qwen checkpoints have: answers of a batch end at different steps.
    model.generation_config.eos_token_id = [1, *range(6, 60)]
    return model, AutoProcessor.from_pretrained(tiny)


def picture(seed: int) -> Image.Image:
    noise = torch.randint(
        0, 256, (48, 48, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return Image.fromarray(noise.numpy())


def prompts(processor: Any, numbers: list[int]) -> Batch:
    texts = [
        processor.apply_chat_template(
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": QUESTIONS[i % len(QUESTIONS)]}],
                }
            ],
            add_generation_prompt=True,
        )
        for i in numbers
    ]
    inputs = processor(
        images=[picture(i) for i in numbers],
        text=texts,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    return Batch(inputs=dict(inputs), labels=None, ids=[str(i) for i in numbers])


def slow_greedy(model: Any, processor: Any, number: int, max_new_tokens: int) -> str:
    """One sample, no cache, no padding, the whole sequence again for every token."""
    inputs = dict(prompts(processor, [number]).inputs)
    said: list[int] = []
    while len(said) < max_new_tokens:
        with torch.no_grad():
            token = int(model(**inputs, use_cache=False).logits[0, -1].argmax())
        said.append(token)
        if token in model.generation_config.eos_token_id:
            break
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return str(processor.tokenizer.decode(said, skip_special_tokens=True)).strip()


def test_answers_are_the_same_at_batch_size_1_and_32_and_by_hand(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    numbers = list(range(32))
    together = generate(model, processor, prompts(processor, numbers), 8)
    alone = [generate(model, processor, prompts(processor, [i]), 8)[0] for i in numbers]
    assert together == alone
    assert together[:8] == [slow_greedy(model, processor, i, 8) for i in numbers[:8]]
    assert len(set(together)) > 4
    assert len({len(processor.tokenizer(answer)["input_ids"]) for answer in together}) > 1


def test_a_checkpoint_that_samples_is_decoded_greedily(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    plain = generate(model, processor, prompts(processor, [0, 1, 2]), 8)
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        num_beams=3,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        min_new_tokens=8,
        suppress_tokens=list(range(60, 330)),
        eos_token_id=own.eos_token_id,
        pad_token_id=0,
    )
    taste = model.generation_config.to_dict()
    try:
        assert generate(model, processor, prompts(processor, [0, 1, 2]), 8) == plain
        assert model.generation_config.to_dict() == taste
    finally:
        model.generation_config = own


def test_it_stops_when_every_answer_has_ended(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    steps: list[int] = []
    handle = model.register_forward_hook(lambda *_: steps.append(1))
    own = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = list(range(model.config.text_config.vocab_size))
    try:
        generate(model, processor, prompts(processor, [0, 1]), 8)
    finally:
        handle.remove()
        model.generation_config.eos_token_id = own
    assert len(steps) == 1


def test_a_model_in_training_mode_is_refused(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    model.train()
    try:
        with pytest.raises(RuntimeError, match="eval mode"):
            generate(model, processor, prompts(processor, [0]), 1)
    finally:
        model.eval()


def test_right_padded_prompts_are_refused(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    batch = prompts(processor, [1, 2])
    batch.inputs["attention_mask"] = batch.inputs["attention_mask"].flip(1)
    with pytest.raises(RuntimeError, match="left-padded"):
        generate(model, processor, batch, 1)


def test_end_tokens_come_from_the_checkpoint_and_from_the_tokenizer(checkpoint: tuple[Any, Any]) -> None:
    model, processor = checkpoint
    own = model.generation_config
    try:
        model.generation_config = GenerationConfig(eos_token_id=7)
        assert end_tokens(model, processor.tokenizer) == [7, processor.tokenizer.eos_token_id]
        model.generation_config = GenerationConfig()
        assert end_tokens(model, processor.tokenizer) == [processor.tokenizer.eos_token_id]
        assert greedy_config(model, processor.tokenizer, 3).pad_token_id == processor.tokenizer.pad_token_id
    finally:
        model.generation_config = own


def test_the_end_of_turn_that_training_teaches_ends_an_answer_wherever_it_is_named() -> None:
    processor = llava(special=CHATML_TOKENS, eos="<|end|>")
    model: Any = SimpleNamespace(generation_config=GenerationConfig())
    batch = Collator(processor, None).train([simple("row")])
    assert batch.labels is not None
    taught = int(batch.labels[0][batch.labels[0] != IGNORED][-1])
    assert processor.tokenizer.decode([taught]) == "<|im_end|>"
    assert end_tokens(model, processor) == [processor.tokenizer.eos_token_id, taught]
    assert greedy_config(model, processor, 3).eos_token_id == [processor.tokenizer.eos_token_id, taught]
    processor.chat_template = "{{ raise_exception('no') }}"
    assert turn_ends(copy(processor)) == ()


def test_a_checkpoint_without_an_end_token_is_refused() -> None:
    class Nameless:
        generation_config = GenerationConfig()
        eos_token_id = None

    with pytest.raises(UserError, match=r"model\.path"):
        end_tokens(Nameless(), Nameless())


def test_only_new_tokens_are_kept() -> None:
    prompt = torch.tensor([[5, 6]])
    assert new_tokens(torch.tensor([[5, 6, 7, 8]]), prompt).tolist() == [[7, 8]]
    assert new_tokens(torch.tensor([[2, 7, 8]]), prompt).tolist() == [[2, 7, 8]]
