"""A base model with a peft adapter folded into it, read tensor by tensor as if it had been saved as a whole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.merge.model_folder import ADAPTER, ModelFolder, located
from lmmcl.merge.names import parameter_names
from lmmcl.merge.tensor_file import Entry, entries

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.weight)?")
_OTHER_FORMULA = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that move the base model's weights, so that the saved factors fit other weights than the base's."""


def open_adapter(base: ModelFolder, path: str | Path) -> ModelFolder:
    """The model that a LoRA adapter makes of its base: W + s B A, summed in fp32, in the base's dtype.

    Hu et al., 2021, arXiv 2106.09685, with peft's scaling: s is α / r, or α / √r under ``use_rslora``. Modules that the
    adapter saved whole (``modules_to_save``, biases) take the place of the base's.

    Args:
        base: the model that the adapter was made for.
        path: folder with ``adapter_config.json`` and ``adapter_model.safetensors``, or such a repository's hub id.

    Returns:
        A model with the keys, dtypes and shapes of the base. A tensor is folded when it is read.

    Raises:
        UserError: it is no LoRA adapter, of a kind that no sum with the base gives, or of another base.
    """
    name, folder = str(path), located(str(path))
    if not (folder / ADAPTER).exists() or not (folder / WEIGHTS).exists():
        raise UserError(f"{name} must hold {ADAPTER} and {WEIGHTS}, as peft's save_pretrained writes them.")
    config: dict[str, Any] = json.loads((folder / ADAPTER).read_text())
    _check(name, config)
    factors: dict[str, dict[str, Entry]] = {}
    whole: dict[str, Entry] = {}
    for key, entry in entries(folder / WEIGHTS).items():
        held = key.removeprefix(_PREFIX).replace(".base_layer.", ".")
        if found := _LORA.fullmatch(held):
            factors.setdefault(f"{found[1]}.weight", {})[(found[2] or "") + found[3]] = entry
        elif "lora_" in held:
            raise UserError(
                f"{name} holds {key}, which no plain LoRA has; merge it into its base with peft first."
            )
        else:
            whole[held] = entry
    places = _places(base, name, [*factors, *whole])
    folded = {places[held]: _Fold(pair, _scale(config, held, pair)) for held, pair in factors.items()}
    return _Adapted(base, name, folder, folded, {places[held]: entry for held, entry in whole.items()})


class _Fold:
    """The change that a pair of factors makes."""

    def __init__(self, pair: Mapping[str, Entry], scale: float) -> None:
        self.transposed = "embedding_A" in pair
        prefix = "embedding_" if self.transposed else ""
        self.first, self.second, self.scale = pair[f"{prefix}A"], pair[f"{prefix}B"], scale

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.second.shape[0], self.first.shape[1]
        return shape[::-1] if self.transposed else shape

    def change(self, begin: int, end: int) -> Tensor:
        """Rows of s B A, (end − begin, width), in fp32."""
        rank, words = self.first.shape
        if self.transposed:  # (r, words) and (width, r)
            columns = [self.first.read(i * words + begin, i * words + end) for i in range(rank)]
            second = self.second.read().reshape(self.second.shape).float()
            return torch.stack(columns).float().T @ second.T * self.scale
        first = self.first.read().reshape(self.first.shape).float()
        rows = self.second.read(begin * rank, end * rank).reshape(-1, rank).float()
        return rows @ first * self.scale


class _Adapted(ModelFolder):
    """The base with folded factors and whole tensors in place of its own."""

    def __init__(
        self,
        base: ModelFolder,
        name: str,
        folder: Path,
        folds: Mapping[str, _Fold],
        whole: Mapping[str, Entry],
    ) -> None:
        super().__init__(name, base.folder, base._entries)
        for key, shape in [
            *((k, f.shape) for k, f in folds.items()),
            *((k, e.shape) for k, e in whole.items()),
        ]:
            if shape != base.shape(key):
                raise UserError(
                    f"{name} changes {key} as {shape}, which in {base.name} is {base.shape(key)}."
                )
        self._folds = folds
        self._whole = whole

    @override
    def part(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        if key in self._whole:
            return self._whole[key].read(start, stop).to(self.dtype(key))
        values = super().part(key, start, stop)
        if key not in self._folds or not len(values):
            return values
        stop = start + len(values)
        width = self.shape(key)[1]
        begin, end = start // width, -(-stop // width)
        change = self._folds[key].change(begin, end).flatten()[start - begin * width : stop - begin * width]
        return (values.float() + change).to(values.dtype)


def _check(name: str, config: Mapping[str, Any]) -> None:
    """Refuses what is not W + s B A."""
    if config.get("peft_type") != "LORA":
        raise UserError(f"{name} is an adapter of type {config.get('peft_type')}; only LORA can be folded.")
    used = [key for key in _OTHER_FORMULA if config.get(key)]
    start = str(config.get("init_lora_weights", ""))
    used += [f"init_lora_weights: {start}"] if start.lower().startswith(_OTHER_BASE) else []
    used += ["fan_in_fan_out"] if config.get("fan_in_fan_out") else []
    if used:
        raise UserError(
            f"{name} uses {', '.join(used)}, so it is no sum W + s B A; "
            "merge it into its base with peft first."
        )
    if not _is_number(config.get("lora_alpha")):
        _refuse(name, "lora_alpha", config.get("lora_alpha"), "must be a number, the α of the scale α / r")
    for key in ("alpha_pattern", "rank_pattern"):
        patterns = config.get(key) or {}
        if not isinstance(patterns, Mapping) or not all(map(_is_number, patterns.values())):
            _refuse(name, key, patterns, "must map regular expressions to numbers")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                _refuse(name, key, pattern, f"must hold regular expressions ({error})")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(name: str, key: str, value: object, rule: str) -> NoReturn:
    raise UserError(
        f"{name}/{ADAPTER}: {key} {rule}, got {value!r}; fetch the adapter again or mend the file."
    )


def _scale(config: Mapping[str, Any], held: str, pair: Mapping[str, Entry]) -> float:
    """The scale of one module, by peft's rules: its own α where a pattern names it, and the rank of its factors."""
    module = held.removesuffix(".weight")
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    own = (value for pattern, value in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", module))
    alpha = float(next(own, config["lora_alpha"]))
    kinds = {kind.removeprefix("embedding_") for kind in pair}
    if kinds != {"A", "B"}:
        raise UserError(f"{module}: the adapter holds lora_{min(kinds)} without its counterpart.")
    first, second = (next(e for kind, e in pair.items() if kind.endswith(end)) for end in "AB")
    if len(first.shape) != 2 or len(second.shape) != 2 or first.shape[0] != second.shape[1]:
        raise UserError(f"{module}: factors of shapes {first.shape} and {second.shape} cannot be folded.")
    rank = first.shape[0]
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _places(base: ModelFolder, name: str, wanted: list[str]) -> dict[str, str]:
    """The base's key of each tensor that an adapter names, by the files' names or by those in memory."""
    direct = {held: held for held in wanted if held in base}
    left = [held for held in wanted if held not in direct]
    if not left:
        return direct
    keys = {in_memory: key for key, in_memory in parameter_names(base).items()}
    if missing := [held for held in left if held not in keys]:
        raise UserError(
            f"{name} changes {missing[0]}, which {base.name} has not"
            f"{f' ({len(missing)} such tensors)' if len(missing) > 1 else ''}; give the base that the adapter names."
        )
    return direct | {held: keys[held] for held in left}
