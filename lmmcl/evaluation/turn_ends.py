"""The tokens that end an answer as the chat template writes it: what training teaches a model to stop with."""

from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from lmmcl.data.batches.collate import FORWARD_REFUSALS, dummy
from lmmcl.data.batches.template import ChatTemplate
from lmmcl.errors import UserError

_KNOWN: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()


def turn_ends(processor: Any) -> tuple[int, ...]:
    """Ids of the control tokens behind an answer in a conversation; none where a template tells none.

    Args:
        processor: a processor; a tokenizer alone, which no conversation with a picture can be written by, has none.
    """
    if getattr(processor, "tokenizer", None) is None:
        return ()
    if processor not in _KNOWN:
        _KNOWN[processor] = _read(processor)
    return _KNOWN[processor]


def _read(processor: Any) -> tuple[int, ...]:
    try:
        (rendered,) = ChatTemplate(processor).conversations([dummy(None)])
    except (
        UserError,
        TemplateError,
        *FORWARD_REFUSALS,
    ):  # whoever trains with it hears what is wrong with it
        return ()
    first, stop = rendered.learned[-1]
    special = set(processor.tokenizer.all_special_ids)
    special |= {token for token, added in processor.tokenizer.added_tokens_decoder.items() if added.special}
    return tuple(dict.fromkeys(token for token in rendered.ids[first:stop] if token in special))
