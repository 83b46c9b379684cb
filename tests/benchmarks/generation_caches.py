"""Where generation keeps its keys and values: transformers' growing cache and its static one, beside the reserved one.

One small decoder with random weights, the same prompts, greedy answers of one length, all through ``model.generate``.
`DynamicCache` concatenates at every token; `StaticCache` looks at all its positions from the first token on, filled or
not, and its logits are those of another sum; ours is written in place and must give the bits of the first.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM
from typing_extensions import override

from lmmcl.evaluation.reserved_cache import reserving
from tests.benchmarks.fresh_process import Memory, answer

PROMPTS, BATCH, NEW_TOKENS, WORDS = (100, 600, 2_000), 16, 64, 1_000
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For `peak` on a CPU: what is freed goes back at once. Else holes in the heap count, as they happen to lie."""


@dataclass(frozen=True)
class Decoder:
    """What answers.

    Args:
        kv_heads: of as many heads as ``heads``.
        heads: of 64 numbers each.
        layers: of the decoder.
        dtype: of weights and cache.
        device: where it is.
        attention: transformers' name of the kernel.
    """

    kv_heads: int
    heads: int = 8
    layers: int = 4
    dtype: str = "float32"
    device: str = "cpu"
    attention: str = "sdpa"

    def model(self) -> Any:
        """Random weights, the same every time; no token ends an answer."""
        width = 64 * self.heads
        config = Qwen2Config(
            vocab_size=WORDS,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=4_096,
        )
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(config)
        model.set_attn_implementation(self.attention)
        model.to(self.device, getattr(torch, self.dtype)).eval()
        model.generation_config = GenerationConfig(
            do_sample=False, pad_token_id=0, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS
        )
        return model


@contextmanager
def static(model: Any, compiled: bool) -> Iterator[None]:
    """The static cache of transformers; its decoding forwards compiled or not, which it does on a GPU alone."""
    own = model.generation_config
    model.generation_config = GenerationConfig(
        **{**own.to_dict(), "cache_implementation": "static", "disable_compile": not compiled}
    )
    model._previous_max_cache_length = -1  # it would reserve for the longest prompt so far
    try:
        yield
    finally:
        model.generation_config = own


WAYS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "DynamicCache": lambda model: nullcontext(),
    "StaticCache": lambda model: static(model, compiled=False),
    "ours": lambda model: reserving(model, NEW_TOKENS),
}


class Clock(LogitsProcessor):
    """Looks at the clock when the first token is chosen, and keeps every step's logits.

    Args:
        device: that is waited for.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.first = 0.0
        self.logits: list[Tensor] = []

    @override
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self.first:
            self.first = self.now()
        self.logits.append(scores.clone())
        return scores

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        if self._device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class Said:
    """One batch of answers.

    Args:
        seconds: of all of it.
        decoding: seconds behind the prompt, for all new tokens but the first.
        tokens: (batch, new tokens).
        logits: (new tokens, batch, words).
    """

    seconds: float
    decoding: float
    tokens: Tensor
    logits: Tensor

    @property
    def pace(self) -> float:
        """New tokens a second behind the prompt."""
        return BATCH * (NEW_TOKENS - 1) / self.decoding


def prompts(length: int, device: str) -> dict[str, Tensor]:
    """A left-padded batch."""
    ids = torch.randint(1, WORDS, (BATCH, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[0, : length // 10] = 0
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def ask(model: Any, inputs: dict[str, Tensor], way: AbstractContextManager[None]) -> Said:
    """Answers a batch in one of the `WAYS`."""
    clock = Clock(model.device.type)
    begin = clock.now()
    with torch.no_grad(), way:
        output = model.generate(**inputs, logits_processor=LogitsProcessorList([clock]))
    end = clock.now()
    new = output[:, inputs["input_ids"].shape[1] :].cpu()
    return Said(end - begin, end - clock.first, new, torch.stack(clock.logits).cpu())


def check(length: int, found: dict[str, Said]) -> float:
    """The share of the static cache's tokens that are those of the dynamic one, answers alike up to there.

    Raises:
        SystemExit: ours does not give the bits of the dynamic cache.
    """
    plain, ours = found["DynamicCache"], found["ours"]
    if not (torch.equal(plain.logits, ours.logits) and torch.equal(plain.tokens, ours.tokens)):
        raise SystemExit(f"failed: prompts of {length}: the reserved cache gives other logits")
    equal = (found["StaticCache"].tokens == plain.tokens).int().cumprod(1)
    return float(equal.float().mean())


def peak(way: str, length: int, **decoder: Any) -> dict[str, float]:
    """Bytes that a batch of answers takes in this process above model and prompts."""
    made = Decoder(**decoder)
    model, inputs = made.model(), prompts(length, made.device)
    with torch.no_grad(), WAYS[way](model):
        model.generate(**prompts(8, made.device))  # what is made once
        memory = Memory()
        model.generate(**inputs)
    return {"bytes": memory.peak()}


if __name__ == "__main__":
    answer(peak)
