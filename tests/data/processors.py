"""Processors of several families around the mini tokenizer, made without a network."""

from typing import Any

from PIL import Image
from transformers import LlavaProcessor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import MllamaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from lmmcl.data.row import Row
from lmmcl.world.mini import tokenizer

PARTS = (
    "{%% for part in message['content'] %%}{%% if part['type'] == 'image' %%}%s"
    "{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + PARTS
    % "IMAGE"
    + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VICUNA = (  # LLaVA-1.5: no end of turn, a space before and behind every text
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}IMAGE\n{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% "
    "endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAMA3 = (  # writes the begin-of-text token, trims every text
    "<|begin|>{% for message in messages %}<|head|>{{ message['role'] }}<|/head|>\n\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] | "
    "trim }}{% endif %}{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
MISTRAL = (  # the prompt ends with the user's turn: there is no generation prompt
    "<s>{% for message in messages %}{% if message['role'] == 'user' %}[INST]" + PARTS % "IMAGE" + "[/INST]"
    "{% else %}" + PARTS % "" + "</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else "
    "'user' }}\n{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ "
    "part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHATML_TOKENS = ["<|im_start|>", "<|im_end|>"]


def _text(image: str, special: list[str], eos: str, bos: str | None = None, **named: str) -> Any:
    text = tokenizer()
    text.add_special_tokens(
        {"additional_special_tokens": [image, *special, *named.values()], "eos_token": eos}
    )
    if bos is not None:
        text.add_special_tokens({"bos_token": bos})
    for name, token in {"image_token": image, **named}.items():
        setattr(text, name, token)
        setattr(text, f"{name}_id", text.convert_tokens_to_ids(token))
    return text


def llava(template: str = CHATML, eos: str = "<|im_end|>", bos: str | None = None, special: Any = ()) -> Any:
    pictures = SiglipImageProcessorPil(size={"height": 24, "width": 24}, do_convert_rgb=True)
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=_text("<image>", [*special, eos], eos, bos),
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=template.replace("IMAGE", "<image>"),
    )


def llava_next() -> Any:
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[[28, 56], [56, 28]],
    )
    return LlavaNextProcessor(
        pictures,
        _text("<image>", CHATML_TOKENS, "<|im_end|>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATML.replace("IMAGE", "<image>"),
    )


def gemma3() -> Any:
    """Its pictures bring line breaks of their own, which merge with those of the text."""
    text = _text(
        "<img>",
        ["<start_of_turn>", "<end_of_turn>"],
        "<end_of_turn>",
        "<bos>",
        boi_token="<boi>",
        eoi_token="<eoi>",
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    return Gemma3Processor(pictures, text, GEMMA.replace("IMAGE", "<boi>"), image_seq_length=4)


def idefics3() -> Any:
    """It splits pictures into tiles with markers and line breaks between."""
    markers = [
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)),
    ]
    text = _text("<image>", [*CHATML_TOKENS, *markers], "<|im_end|>")
    text.fake_image_token = markers[0]
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return Idefics3Processor(
        pictures, text, image_seq_len=3, chat_template=CHATML.replace("IMAGE", "<image>")
    )


def mllama() -> Any:
    """Pictures go through cross attention: one token stands for each."""
    text = _text("<|image|>", ["<|head|>", "<|/head|>", "<|eot|>"], "<|eot|>", "<|begin|>")
    pictures = MllamaImageProcessorPil(size={"height": 28, "width": 28}, max_image_tiles=2)
    template = LLAMA3.replace("IMAGE", "<|image|>")
    return MllamaProcessor(pictures, text, template)


FAMILIES = {
    "llava-chatml": lambda: llava(special=CHATML_TOKENS),
    "llava-vicuna": lambda: llava(VICUNA, "</s>"),
    "llava-llama3": lambda: llava(LLAMA3, "<|eot|>", "<|begin|>", ["<|head|>", "<|/head|>"]),
    "llava-mistral": lambda: llava(MISTRAL, "</s>", "<s>", ["[INST]", "[/INST]"]),
    "llava-next": llava_next,
    "gemma3": gemma3,
    "idefics3": idefics3,
    "mllama": mllama,
}
"""Names and makers of processors whose templates and pictures differ in every way that matters to labels."""

END_OF_TURN = {
    "llava-chatml": "<|im_end|>",
    "llava-vicuna": "</s>",
    "llava-llama3": "<|eot|>",
    "llava-mistral": "</s>",
    "llava-next": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "idefics3": "<|im_end|>",
    "mllama": "<|eot|>",
}


def say(role: str, *parts: str) -> dict[str, Any]:
    """A message; the part ``IMAGE`` is a picture."""
    content = [{"type": "image"} if part == "IMAGE" else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def row(name: str, *messages: dict[str, Any], **options: Any) -> Row:
    """A row with a picture for every place, each of another shape."""
    count = sum(part["type"] == "image" for message in messages for part in message["content"])
    pictures = tuple(Image.new("RGB", (40 + 20 * index, 40), (50 * index, 90, 30)) for index in range(count))
    return Row(name, list(messages), pictures, **options)


def simple(name: str, question: str = "How many circles?", answer: str = "3", **options: Any) -> Row:
    """One question about one picture."""
    return row(name, say("user", "IMAGE", question), say("assistant", answer), **options)
