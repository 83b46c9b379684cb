"""``lmmcl schema``: the JSON schema of a config, by which editors complete keys and mark mistakes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import CommandParser

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_BASIC = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_GROUPS = {
    "model": "What is taught.",
    "data": "The tasks.",
    "trainer": "Where and how it runs: Lightning's Trainer.",
}


def run(arguments: Sequence[str]) -> None:
    """Prints the schema."""
    parser = CommandParser(
        "lmmcl schema", "Print the JSON schema of a config: lmmcl schema > lmmcl.schema.json"
    )
    parser.parse_args(list(arguments))
    quiet()
    print(json.dumps(schema(), indent=1, ensure_ascii=False))


def schema() -> dict[str, Any]:
    """The schema of one config or layer of a config, draft 2020-12.

    It is made of the parser's keys, their types and docstrings. No key is required: a config may be one of several
    layers, and the command line may give the rest.
    """
    from lmmcl.cli.config_parser import config_parser
    from lmmcl.cli.keys import keys_of

    tasks = {"type": "array", "items": _ref("task")}
    callbacks = [{"type": "array", "items": _ref("callback")}, {"type": "null"}, _ref("callback")]
    special: dict[str, dict[str, Any]] = {
        "model.recipe": _ref("recipe"),
        "data.tasks": tasks,
        "data.held_out": tasks,
        "trainer.callbacks": {"anyOf": callbacks},
    }
    groups: dict[str, dict[str, Any]] = {group: {} for group in ("", *_GROUPS)}
    for key in keys_of(config_parser()):
        entry = special.get(key.name) or of_type(key.hint)
        name = key.name.rpartition(".")[2]
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        given = {} if key.required else {"default": default}
        groups[key.group][name] = {**entry, "description": key.text, **given}
        if key.appends:
            text = f"Adds to the list of an earlier config. {key.text}"
            groups[key.group][f"{name}+"] = {**entry, "description": text}
    top = {**groups.pop(""), **{name: _object(keys, _GROUPS[name]) for name, keys in groups.items()}}
    named = {"recipe": _recipe(), "task": _task(), "callback": _callback()}
    return {"$schema": DRAFT, "title": "A config of lmmcl", **_object(top), "$defs": named}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def of_type(hint: Any) -> dict[str, Any]:
    """The schema of a type; what JSON cannot say of it is left open."""
    if hint in (Any, object):
        return {}
    if hint in _BASIC:
        return {"type": _BASIC[hint]}
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is Union or getattr(origin, "__name__", "") in ("UnionType", "Union"):
        return _any_of([of_type(option) for option in inner])
    name = getattr(origin or hint, "__name__", "")
    if name == "tuple" and inner and inner[-1] is not Ellipsis:
        return {
            "type": "array",
            "prefixItems": [*map(of_type, inner)],
            "minItems": len(inner),
            "items": False,
        }
    if name in ("list", "tuple", "Sequence", "Iterable"):
        return {"type": "array", **({"items": of_type(inner[0])} if inner else {})}
    if name in ("dict", "Mapping"):
        return {"type": "object", **({"additionalProperties": of_type(inner[1])} if inner else {})}
    if name in ("Path", "timedelta"):
        return {"type": "string"}
    return _class_entry(None) if inspect.isclass(hint) else {}


def _any_of(options: Iterable[dict[str, Any]]) -> dict[str, Any]:
    different: list[dict[str, Any]] = []
    for option in options:
        if option not in different:
            different.append(option)
    if {} in different:
        return {}
    return different[0] if len(different) == 1 else {"anyOf": different}


def _object(properties: Mapping[str, Any], text: str = "", required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        **({"description": text} if text else {}),
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def documented(function: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Schema of every argument of a function or class, with its type, default and docstring."""
    from docstring_parser import parse

    from lmmcl.cli.keys import plain

    signature = inspect.signature(function)
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    told = {entry.arg_name: entry.description or "" for entry in parse(inspect.getdoc(function) or "").params}
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in signature.parameters.items():
        found[name] = of_type(hints.get(name, Any))
        if text := plain(told.get(name, "")):
            found[name]["description"] = text
        if isinstance(parameter.default, str | int | float | bool):
            found[name]["default"] = parameter.default
    return found


def _class_entry(cls: type | None, names: Sequence[str] = ()) -> dict[str, Any]:
    """``{class_path, init_args}``: of a known class, or, for None, of any class that is named with its module."""
    if cls is None:
        path: dict[str, Any] = {"type": "string", "pattern": r"\."}
        return {
            "anyOf": [
                path,
                _object({"class_path": path, "init_args": {"type": "object"}}, "", ["class_path"]),
            ]
        }
    arguments = _object(documented(cls))
    return _object({"class_path": {"enum": list(names)}, "init_args": arguments}, "", ["class_path"])


def _callback() -> dict[str, Any]:
    from lightning.pytorch import callbacks as lightnings

    import lmmcl.callbacks
    from lmmcl.cli.keys import sentence

    entries: list[dict[str, Any]] = []
    for name in lmmcl.callbacks.__all__:
        cls = getattr(lmmcl.callbacks, name)
        text = sentence(inspect.getdoc(cls) or "")
        names = [name, f"lmmcl.callbacks.{name}"]
        entries += [{"enum": names, "description": text}, {**_class_entry(cls, names), "description": text}]
    others = sorted(set(lightnings.__all__) - {"Callback"})
    theirs = _object({"class_path": {"enum": others}, "init_args": {"type": "object"}}, "", ["class_path"])
    # A path with a dot that is none of ours: a class of the user, or Lightning's by its whole name.
    path = {"type": "string", "pattern": r"^(?!lmmcl\.callbacks\.\w+$).+\..+$"}
    own = _object({"class_path": path, "init_args": {"type": "object"}}, "Your own class.", ["class_path"])
    entries += [{"enum": others}, theirs, path, own]
    return {"anyOf": entries}


def _recipe() -> dict[str, Any]:
    from lmmcl.structure.recipe import RECIPES

    name = {"anyOf": [{"enum": [*RECIPES, "last_4", "first_4_frozen"]}, {"type": "string"}]}
    names = {"anyOf": [name, {"type": "array", "items": name}]}
    numbers = {"type": "array", "items": {"type": "integer"}}
    mapping = _object(
        {
            "train": {**names, "description": "Recipes, groups or parameters."},
            "layers": {
                "anyOf": [{"type": ["string", "integer"]}, numbers],
                "description": 'Decoder layers: "12:", -1 or [0, 1, 31].',
            },
            "lr": {
                "type": "object",
                "additionalProperties": {"type": "number"},
                "description": "Learning rate by group.",
            },
        },
        required=["train"],
    )
    one = [name, mapping]
    return {"anyOf": [*one, {"type": "array", "minItems": 1, "items": {"anyOf": one}}]}


def _task() -> dict[str, Any]:
    from lmmcl.data.hub.form import hub_source
    from lmmcl.data.parse import OVERRIDES, SOURCE_KEYS, built_in_tasks
    from lmmcl.data.sources import FileSource
    from lmmcl.data.task import Task
    from lmmcl.data.task_settings import TaskSettings

    of_task, files, hub = documented(Task), documented(FileSource), documented(hub_source)
    keys = {name: of_task[name] for name in OVERRIDES}
    keys["recipe"] = {**_ref("recipe"), "description": of_task["recipe"]["description"]}
    keys["scoring"] = documented(TaskSettings)["scoring"]
    for origin, beside in SOURCE_KEYS.items():
        keys |= {name: files.get(name) or hub[name] for name in beside}
        keys[origin] = files["path"]
    keys["hub"] = hub["dataset"] | {"type": "string", "pattern": "^[^/]+/[^/]+$"}
    keys["splits"] |= {"type": "object", "additionalProperties": {"type": "string"}}
    keys["train"] = {**files["path"], "description": "Rows of your own that a task of lmmcl learns from."}
    known = {"enum": list(built_in_tasks()), "description": "A task that lmmcl brings."}
    name = {"anyOf": [known, {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"}]}
    task = {**name, "description": "Its name: one that lmmcl brings, or your own beside its rows."}
    mapping = _object({"task": task, "scorer": _scorer(), **keys}, "", ["task"])
    return {"anyOf": [known, mapping]}


def _scorer() -> dict[str, Any]:
    import lmmcl.scorers

    ours = [name for name in lmmcl.scorers.__all__ if name[0].islower()]
    path = {"type": "string", "pattern": r".+\..+"}
    return {
        "anyOf": [{"enum": ours}, path],
        "description": "How an answer is scored; your own: module.function.",
    }
