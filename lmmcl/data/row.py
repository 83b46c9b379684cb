"""One example on its way from a source to the model: a conversation, its pictures and its gold answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image

Message = Mapping[str, Any]
ImageSource = Image | Path | Callable[[], Image]


@dataclass(frozen=True)
class Row:
    """One example of a task.

    Args:
        id: unique in its task; it names the example in errors, predictions and reports.
        messages: the conversation in the Hugging Face chat form. Each has a ``role`` and a ``content``, a list of
            ``{"type": "text", "text": ...}`` and ``{"type": "image"}`` parts. The last one is the assistant's
            answer: training learns it (and every earlier assistant turn), evaluation leaves it out.
        images: the pictures in the order of the image parts; paths and callables are opened by the worker that
            processes the row.
        gold: what the task's scorer compares a prediction with.
        meta: what else the scorer or the report needs (``options``, ``category``, ``critical``, ...).
        extras: plain numbers or tensors a mitigation attached in ``select``; they arrive in ``Batch.extras``.
    """

    id: str
    messages: Sequence[Message]
    images: Sequence[ImageSource] = ()
    gold: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> str:
        """The text of the assistant's last turn."""
        return "".join(part["text"] for part in self.messages[-1]["content"] if part["type"] == "text")
