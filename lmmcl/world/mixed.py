"""A picture of any of the other held-out families."""

from dataclasses import replace

from lmmcl.world import (
    attributes,
    chart,
    diagram,
    document,
    infographic,
    scene,
    science,
)
from lmmcl.world.picture import Picture
from lmmcl.world.stream import Stream

FAMILIES = {
    "attributes": attributes.draw,
    "scene": scene.draw,
    "chart": chart.draw,
    "diagram": diagram.draw,
    "document": document.draw,
    "infographic": infographic.draw,
    "science": science.draw,
}
"""The families of pictures that the general mixture is made of."""


def draw(stream: Stream) -> Picture:
    """Draws a picture of one of the families, each equally often; every question names its family."""
    name = stream.pick(tuple(FAMILIES))
    picture = FAMILIES[name](stream)
    questions = tuple(
        replace(question, meta={**question.meta, "category": name}) for question in picture.questions
    )
    return replace(picture, questions=questions)
