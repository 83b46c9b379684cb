"""Which parameter of a model a stored tensor is: files may hold an older layout than the model in memory has."""

from __future__ import annotations

from typing import Any

from lmmcl.merge.model_folder import ModelFolder


def parameter_names(folder: ModelFolder) -> dict[str, str]:
    """The name in memory of each stored tensor, as transformers' loader would find it.

    Args:
        folder: of an image-text-to-text model.

    Returns:
        name in memory by key. Left out are tensors that the loader would join with others (experts in one tensor) and
        those that the model has not.

    Raises:
        UserError: its config does not build such a model.
    """
    # Only where files differ in layout: transformers takes seconds to import, and much memory.
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    from lmmcl.loading import Checkpoint
    from lmmcl.structure.recipe_table import on_meta

    model: Any = on_meta(Checkpoint(str(folder.folder)))
    held = model.state_dict()
    mapping = get_model_conversion_mapping(model)
    renamings = [change for change in mapping if isinstance(change, WeightRenaming)]
    joined = [change for change in mapping if isinstance(change, WeightConverter)]
    names = {}
    for key in folder.keys():
        name, converted = rename_source_key(key, renamings, joined, model.base_model_prefix, held)
        if converted is None and name in held and tuple(held[name].shape) == folder.shape(key):
            names[key] = name
    return names
