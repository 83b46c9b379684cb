"""A key that a config does not have: the nearest one, the group it stands in, or its name here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_HERE = {
    "model_name_or_path": "model.path",
    "base_model": "model.path",
    "learning_rate": "model.lr",
    "lr_scheduler": "model.schedule",
    "lr_scheduler_type": "model.schedule",
    "gradient_checkpointing": "model.activation_checkpointing",
    "finetuning_type": "model.recipe",
    "load_in_4bit": "model.frozen_bits: 4",
    "load_in_8bit": "model.frozen_bits: 8",
    "save_steps": "model.checkpoint_every_n_steps",
    "cutoff_len": "model.max_length",
    "sequence_len": "model.max_length",
    "dataset": "data.tasks",
    "datasets": "data.tasks",
    "per_device_train_batch_size": "data.micro_batch_size",
    "gradient_accumulation_steps": "data.batch_size, the samples of one step, and data.micro_batch_size",
    "num_epochs": "data.tasks: [{task: ..., epochs: N}]",
    "num_train_epochs": "data.tasks: [{task: ..., epochs: N}]",
    "epochs": "data.tasks: [{task: ..., epochs: N}]",
    "sample_packing": "data.packing",
    "eval_dataset": "data.held_out",
    "bf16": "trainer.precision: bf16-mixed",
    "max_grad_norm": "trainer.gradient_clip_val",
    "output_dir": "run",
    "resume_from_checkpoint": "ckpt_path: last",
}
"""What other trainers (transformers, TRL, LLaMA-Factory, axolotl) call what has a key here."""


def unknown_key(key: str, keys: Sequence[str]) -> str:
    """One line for a key that there is not.

    Args:
        key: as it was given, with dots.
        keys: every key of the parser, with dots (``model.lr``).
    """
    group, dot, name = key.partition(".")
    groups = sorted({other.partition(".")[0] for other in keys})
    if dot and group in groups:
        names = [other.partition(".")[2] for other in keys if other.startswith(f"{group}.")]
        near = _elsewhere(name, keys) or hint(name.partition(".")[0], names)
        return f"{group} has no key {name!r};{near or f' it has {some(names)}.'}"
    near = hint(group, groups) or _elsewhere(key, keys)
    return f"there is no key {group!r};{near or f' there are {some(groups)}.'}"


def _elsewhere(name: str, keys: Sequence[str]) -> str:
    """The key that bears the name in another group, or what it is called here."""
    last = name.rpartition(".")[2].replace("-", "_")
    same = [key for key in keys if key.rpartition(".")[2] == last]
    meant = same[0] if len(same) == 1 else _HERE.get(last)
    return f" did you mean {meant}?" if meant else ""


def hint(word: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` with the nearest known word, in upper or lower case; empty where nothing is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f" did you mean {names[near[0]]}?" if near else ""


def some(words: Sequence[str], most: int = 12) -> str:
    """The first words of a list, without what follows a dot."""
    names = list(dict.fromkeys(word.partition(".")[0] for word in words))
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
