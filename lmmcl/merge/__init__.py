"""Merges of tuned models with their base: pure per-tensor functions, and folders merged tensor by tensor."""

from lmmcl.merge.adapter_folder import open_adapter
from lmmcl.merge.model_folder import ModelFolder, open_model
from lmmcl.merge.tuned import open_base, open_tuned

__all__ = ["ModelFolder", "open_adapter", "open_base", "open_model", "open_tuned"]
