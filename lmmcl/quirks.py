"""The few things that families of checkpoints do in their own way and that nothing general covers.

Each is told by what the processor or its template has, never by a family's name.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from PIL.Image import Image

DAY = {"%Y-%m-%d": "2025-01-01", "%d %b %Y": "01 Jan 2025", "%d %B %Y": "01 January 2025"}
"""The day that a template is told, in the forms that templates ask for."""

_FIXED_DAY = (
    "{%- macro strftime_now(format) -%}{{ " + repr(DAY) + ".get(format, '2025-01-01') }}{%- endmacro -%}"
)

_PREFIX_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}"
)


def template_of(processor: Any) -> Any:
    """The chat template of a processor or its tokenizer; None: there is none."""
    tokenizer = getattr(processor, "tokenizer", None)
    return getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)


def template_arguments(processor: Any) -> Mapping[str, Any]:
    """What a chat template is given beside the conversation.

    - **Today** (Mistral 3, Llama 4): a default system message that tells the day would change the prompt
      overnight, and a resumed run would be another one. The day is fixed.
    - **Thinking** (Qwen3.5, GLM-4.5V): a template that opens a line of thought is asked not to: what is learned
      is the answer.
    """
    template = template_of(processor)
    if not isinstance(template, str):
        return {}
    arguments: dict[str, Any] = {}
    if "strftime_now" in template:
        arguments["chat_template"] = _FIXED_DAY + template
    if "enable_thinking" in template:
        arguments["enable_thinking"] = False
    return arguments


def learns_suffixes(processor: Any) -> bool:
    """Whether a processor takes the answer apart from the prompt.

    - **PaliGemma** is no chat model: its processor lays pictures, ``<bos>``, prompt and a line break in a row itself,
      takes the answer as ``suffix``, and marks it in ``token_type_ids``: the model reads the rest in both
      directions. Such a checkpoint comes without a chat template (`give_template`) and takes rows of one question
      with at least one picture and one answer.
    """
    return "suffix" in signature(type(processor).__call__).parameters


def give_template(processor: Any) -> None:
    """Gives a processor that builds its prompts by itself a template that only joins the texts."""
    if learns_suffixes(processor) and not template_of(processor):
        processor.chat_template = _PREFIX_TEMPLATE


def enlarged(picture: Image, processor: Any) -> Image:
    """A picture that is large enough for the model.

    - **Pixtral** (Mistral 3): a picture of one patch makes one feature, and a batch of one feature loses its
      dimension in transformers' ``get_image_features``. Such a picture is enlarged to two patches.

    Args:
        picture: RGB.
        processor: which says how many pixels a feature stands for.
    """
    if not hasattr(processor, "image_break_token"):
        return picture
    patch = processor.patch_size * processor.spatial_merge_size
    longer = max(picture.size)
    if longer > patch:
        return picture
    width, height = (max(1, round(side * 2 * patch / longer)) for side in picture.size)
    return picture.resize((width, height))
