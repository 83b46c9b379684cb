"""Batched greedy generation: the most likely token at every step, whatever the checkpoint's settings ask."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from lmmcl.data.batches.batch import Batch
from lmmcl.errors import UserError
from lmmcl.evaluation.reserved_cache import reserving
from lmmcl.evaluation.turn_ends import turn_ends


def end_tokens(model: Any, processor: Any) -> list[int]:
    """Ids that end an answer: those of the checkpoint's generation config, the tokenizer's and the chat template's.

    Some checkpoints name the end of text in one place and the end of turn in the other (Llama 3), and some, such as
    those that other tools wrote without a generation config, the end of turn nowhere but in their template; an answer
    that went on behind its end of turn would hold the next turn.

    Args:
        model: a transformers model.
        processor: a processor or tokenizer.

    Raises:
        UserError: the checkpoint names none.
    """
    own = model.generation_config.eos_token_id
    tokenizer = getattr(processor, "tokenizer", processor)
    named = [
        *(own if isinstance(own, list | tuple) else [own]),
        tokenizer.eos_token_id,
        *turn_ends(processor),
    ]
    ids = list(dict.fromkeys(int(token) for token in named if token is not None))
    if not ids:
        raise UserError(
            "model.path: the checkpoint must name a token that ends an answer, and neither its "
            "generation_config.json nor its tokenizer does; set eos_token_id in one of them."
        )
    return ids


def greedy_config(model: Any, processor: Any, max_new_tokens: int) -> GenerationConfig:
    """Settings of plain greedy decoding with the checkpoint's special tokens and nothing else of its own.

    A checkpoint's ``generation_config.json`` may ask for sampling, beams or a repetition penalty, and
    ``generate`` fills whatever a caller leaves open from there. So this is a whole configuration, not a
    patch.
    """
    ends = end_tokens(model, processor)
    tokenizer = getattr(processor, "tokenizer", processor)
    own = model.generation_config
    padding = [token for token in (tokenizer.pad_token_id, own.pad_token_id, ends[0]) if token is not None]
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=padding[0],
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )


@contextmanager
def _generation_config(model: Any, config: GenerationConfig) -> Iterator[None]:
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _check(model: Any, batch: Batch) -> None:
    mask = batch.inputs.get("attention_mask")
    if model.training:
        raise RuntimeError(
            "generate needs a model in eval mode: dropout and activation checkpointing falsify answers"
        )
    if mask is not None and not bool(mask[:, -1].all()):
        raise RuntimeError("generate needs left-padded prompts: a prompt of this batch ends in padding")


def new_tokens(output: Tensor, prompt: Tensor) -> Tensor:
    """What was generated: the output without the prompt (decoder-only) or whole (encoder-decoder).

    Args:
        output: (batch, length) as ``generate`` returns it.
        prompt: (batch, prompt length).
    """
    length = prompt.shape[1]
    repeats = output.shape[1] >= length and torch.equal(output[:, :length], prompt)
    return output[:, length:] if repeats else output


@torch.no_grad()
def generate(
    model: Any,
    processor: Any,
    batch: Batch,
    max_new_tokens: int,
    logits_processors: Sequence[LogitsProcessor] = (),
) -> list[str]:
    """Answers a batch of prompts greedily; stops as soon as every answer of the batch has ended.

    Args:
        model: a transformers model in eval mode; autocast and sharding are the caller's.
        processor: a processor or tokenizer.
        batch: left-padded prompts on the model's device.
        max_new_tokens: longest answer in tokens.
        logits_processors: see every step's logits, (batch, vocabulary), before a token is chosen, and may change them.

    Returns:
        The answers in the order of the batch, without the prompt, special tokens and surrounding space.
    """
    _check(model, batch)
    tokenizer = getattr(processor, "tokenizer", processor)
    config = greedy_config(model, processor, max_new_tokens)
    with _generation_config(model, config), reserving(model, max_new_tokens):
        # The caller gathered the weights, so ranks may stop at different steps.
        output = model.generate(
            **batch.inputs, synced_gpus=False, logits_processor=LogitsProcessorList(logits_processors)
        )
    answers = tokenizer.batch_decode(new_tokens(output, batch.inputs["input_ids"]), skip_special_tokens=True)
    return [answer.strip() for answer in answers]
