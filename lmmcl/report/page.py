"""Makes one self-contained page of a template: style and script inside, allowed by their hashes, nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmmcl.report.heat import class_rules, style_rules
from lmmcl.report.style import CATEGORIES, signed

_DARK_CATEGORIES = (
    "#5db4ec",
    "#f0985a",
    "#3fc29a",
    "#e592c2",
    "#d9b64a",
    "#a8a4f0",
    "#e07a9f",
    "#6cc9c2",
    "#c3c36a",
)
"""The categories once more, light enough to be read as text on the dark page."""
_LIGHT = {
    "paper": "#fcfbf9",
    "raised": "#ffffff",
    "ink": "#1d2126",
    "muted": "#5c646e",
    "faint": "#e4e2dd",
    "gain": "#0b66a8",
    "loss": "#b34a06",
    "mark": "#fbe6bd",
}
_DARK = {
    "paper": "#15181c",
    "raised": "#1c2025",
    "ink": "#e9e7e2",
    "muted": "#a4abb4",
    "faint": "#343a41",
    "gain": "#6cb8ec",
    "loss": "#f0985a",
    "mark": "#574313",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lmmcl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = lambda value, digits=1: signed(value, digits)
    environment.filters["human"] = lambda name: str(name).replace("_", " ")
    return environment


def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def colours(dark: bool) -> dict[str, str]:
    """The page's colours by name; categories are ``k0`` to ``k8``."""
    categories = _DARK_CATEGORIES if dark else CATEGORIES
    return {**(_DARK if dark else _LIGHT), **{f"k{i}": colour for i, colour in enumerate(categories)}}


def style_sheet() -> str:
    """The page's CSS: light, dark as the system or the reader asks, print, and all widths."""
    variables = {
        dark: "".join(f"--{name}:{colour};" for name, colour in colours(dark).items()) + style_rules(dark)
        for dark in (False, True)
    }
    categories = "".join(f".k{i}{{--c:var(--k{i})}}" for i in range(len(CATEGORIES)))
    return (
        f":root{{color-scheme:light;{variables[False]}}}"
        f"@media screen and (prefers-color-scheme:dark)"
        f"{{:root:not([data-theme=light]){{color-scheme:dark;{variables[True]}}}}}"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{variables[True]}}}}}"
        f"{categories}{class_rules()}\n{_source('page.css')}"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """The page; every text in it is escaped, and its policy allows no address, and no script or style but its own.

    Args:
        template: such as ``run.html.j2``.
        context: what it shows; inline SVG is `markupsafe.Markup`.
    """
    style, script = style_sheet(), _source("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    made = page.render(
        **context,
        style=Markup(style),
        script=Markup(script),
        policy=policy,
    )
    return (made.rstrip() + "\n").encode()
