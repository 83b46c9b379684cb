"""What families do in their own way is told by what their processors have."""

from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from PIL import Image

from lmmcl.quirks import enlarged, give_template, learns_suffixes, template_arguments


class Suffixed:
    """A processor that takes the answer apart from the prompt."""

    chat_template: str | None = None

    def __call__(self, text: Any, suffix: Any = None) -> None: ...


def test_a_template_is_told_the_same_day_in_every_form() -> None:
    for form, day in {"%Y-%m-%d": "2025-01-01", "%d %b %Y": "01 Jan 2025", "%j": "2025-01-01"}.items():
        processor = SimpleNamespace(
            chat_template="{%- set today = strftime_now('" + form + "') -%}{{ today }}"
        )
        template = template_arguments(processor)["chat_template"]
        assert jinja2.Environment().from_string(template).render() == day


def test_a_template_that_can_think_is_asked_not_to() -> None:
    processor = SimpleNamespace(chat_template="{% if enable_thinking %}<think>{% endif %}")
    assert template_arguments(processor) == {"enable_thinking": False}
    assert template_arguments(SimpleNamespace(chat_template="{{ messages }}")) == {}


def test_a_processor_that_builds_its_prompts_gets_a_template_unless_it_has_one() -> None:
    processor = Suffixed()
    assert learns_suffixes(processor)
    give_template(processor)
    assert processor.chat_template is not None
    message = {"role": "user", "content": [{"type": "text", "text": "caption"}, {"type": "image"}]}
    template = jinja2.Environment().from_string(processor.chat_template)
    assert template.render(messages=[message]) == "<image>caption"
    own = Suffixed()
    own.chat_template = "own"
    give_template(own)
    assert own.chat_template == "own"


@pytest.mark.parametrize(
    ("size", "larger"), [((1, 1), (56, 56)), ((28, 7), (56, 14)), ((29, 1), (29, 1)), ((3, 28), (6, 56))]
)
def test_a_picture_of_one_patch_is_enlarged_for_pixtral_alone(
    size: tuple[int, int], larger: tuple[int, int]
) -> None:
    pixtral = SimpleNamespace(image_break_token="[IMG_BREAK]", patch_size=14, spatial_merge_size=2)
    picture = Image.new("RGB", size)
    assert enlarged(picture, pixtral).size == larger
    assert enlarged(picture, SimpleNamespace(patch_size=14)) is picture
