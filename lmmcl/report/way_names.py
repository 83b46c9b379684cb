"""Names for ways to train, made from what differs between them: ``sa_proj``, ``mlp_gate_up + LwF``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmmcl.report.facts import recipe_text

_FINGERPRINT = re.compile(r"[0-9a-f]{40,}")
_RECIPE, _CALLBACKS, _ORDER = "model.recipe", "callbacks", "order"


def value_text(value: Any) -> str:
    """A setting's value as a name or a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(one) for one in value) or "none"
    if isinstance(value, str) and _FINGERPRINT.fullmatch(value):
        return f"{value[:12]}…"
    return recipe_text(value) if isinstance(value, Mapping) else str(value)


def fighting(settings: Mapping[str, Any]) -> list[str]:
    """The mitigations of a run."""
    return list(settings.get(_CALLBACKS, ()))


def way_names(ways: Sequence[Mapping[str, Any]], over: Sequence[str] = ("seed",)) -> list[str]:
    """A name for each way to train, no two alike.

    Recipe and callbacks come first, as one would say them; then settings that differ among ways that these do not set
    apart. Settings of a callback that only some have are not named beside its name.

    Args:
        ways: all settings of each, flat, see `lmmcl.evaluation.run_scores.read_settings`.
        over: settings that do not count.
    """
    stems = [" + ".join([recipe_text(way.get(_RECIPE)), *fighting(way)]) for way in ways]
    same = len({recipe_text(way.get(_RECIPE)) for way in ways}) == 1
    if same and len(ways) > 1 and len(set(stems)) > 1:
        stems = [" + ".join(fighting(way)) or "plain" for way in ways]
    names = list(stems)
    for stem in dict.fromkeys(stems):
        members = [i for i, one in enumerate(stems) if one == stem]
        if len(members) > 1:
            for i in members:
                names[i] = f"{stem}, {_rest(ways, members, i, over)}"
    if len(set(stems)) == 1 and len(ways) > 1:
        names = [name.removeprefix(f"{stems[0]}, ") for name in names]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _rest(ways: Sequence[Mapping[str, Any]], members: Sequence[int], i: int, over: Sequence[str]) -> str:
    keys = dict.fromkeys(key for member in members for key in ways[member])
    told = [
        f"{ways[i][_ORDER][0]} first"
        if key == _ORDER and ways[i].get(_ORDER)
        else f"{short_key(key)} {value_text(ways[i].get(key))}"
        for key in keys
        if key not in over and any(ways[member].get(key) != ways[i].get(key) for member in members)
    ]
    return ", ".join(told[:3]) if told else "the same settings"


def short_key(key: str) -> str:
    """``model.lr`` is ``lr``; a callback's or a task's setting keeps its owner."""
    return key.removeprefix("model.").removeprefix("data.")
