"""What some architectures do to the logits after the output embedding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def logit_transform(config: Any) -> Callable[[Tensor], Tensor]:
    """The function between the output embedding's product and the model's logits, read off the config.

    Gemma caps logits softly, Cohere multiplies and Granite divides them; everyone else leaves them alone.
    """
    text = config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None)
    scale = getattr(text, "logit_scale", None)
    divisor = getattr(text, "logits_scaling", None)

    def transform(logits: Tensor) -> Tensor:
        if scale is not None:
            logits = logits * scale
        if divisor is not None:
            logits = logits / divisor
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    return transform
