"""Turns what jsonargparse says about a config into one line: the key, the rule, the value, the way out."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmmcl.cli.unknown_key import hint, some, unknown_key
from lmmcl.errors import UserError

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "NoneType": "null",
    "dict": "a mapping",
    "list": "a list",
    "Sequence": "a list",
    "Mapping": "a mapping",
}
_MANY = {"int": "whole numbers", "float": "numbers", "str": "texts"}
_UNION = re.compile(
    r"Does not validate against any of the Union.*?^Given value: [^\n]*", re.DOTALL | re.MULTILINE
)
_ENTRY = ("class_path", "init_args", "dict_kwargs")
_SHORTEST = 300


def explain(message: str, keys: Sequence[str], classes: Sequence[type] = ()) -> str:
    """One line for one mistake.

    Args:
        message: jsonargparse's, of one or many lines.
        keys: every key of the parser, with dots (``model.lr``).
        classes: what the short names of a YAML may stand for.
    """
    text = "\n".join(line.strip() for line in message.splitlines() if line.strip())
    for pattern, explained in (
        (r"Group '(?P<group>[^']+)' does not accept option '(?P<option>[^']+)'", _unknown_key),
        (r"^Option '(?P<option>[^']+)' is not accepted", _unknown_key),
        (r"^unrecognized arguments: (?P<option>\S+)", _unknown_word),
    ):
        if found := re.search(pattern, text):
            return explained(found.groupdict(), keys)
    if found := re.search(r"arguments are required: (.+)", text):
        missing = found[1].split(", ")
        return f"{missing[0]} is missing: give it in the YAML or by --{missing[0]}."
    if found := re.search(r'Parser key "config":\s*File does not exist: (.+)', text):
        return f"--config: there is no file {found[1]}."
    if found := re.search(r"argument (?:-\w/)?(--\S+): expected one argument", text):
        return f"{found[1]} needs a value behind it."
    if found := re.search(r'argument \w+ --> (\S+):|Linked "(.+?)" must be given via', text):
        return moved(found[1] or found[2])
    if text.startswith("Problems parsing config:"):
        said = " ".join(text.split()[3:]).replace('in "<unicode string>",', "in")
        tab = "; indent with spaces, not with tabs" if "cannot start any token" in said else ""
        return f"--config: this is no valid YAML: {said}{tab}."
    if text.startswith("Unexpected config:"):
        what = "it is empty" if text.partition(":")[2].strip() in ("", "None") else "not a list or a text"
        return f"--config: a YAML must hold keys (model, data, trainer, run, seed), {what}."
    if "codec can't decode" in text:
        return f"--config: a YAML must be UTF-8 text ({text}); save it as UTF-8."
    if found := re.search(r'Parser key "config": Path is not a file: (.+)', text):
        return f"--config: {found[1]} is a folder; name a YAML in it."
    if found := re.search(r'Parser key "([^"]+)":.*Unable to load config [\'"](.*?)[\'"]', text, re.DOTALL):
        return f"{found[1]} must be a mapping of keys, got {found[2]!r}."
    key = found[1] if (found := re.match(r'(?:Parser|Configuration) key "([^"]+)"', text)) else "config"
    return _in_class(text, key, classes) or _wrong_type(text, key) or f"{key}: {_short(text)}"


def moved(key: str) -> str:
    """One line for a key that is given once, at the top, for all who need it."""
    name = key.partition(".")[2]
    return (
        f"{key} must be given at the top of the YAML, as the key {'ckpt_path' if name == 'resume' else name}."
    )


def _unknown_word(found: dict[str, str], keys: Sequence[str]) -> str:
    if found["option"].startswith("--"):
        return _unknown_key(found, keys)
    word = found["option"]
    if word.endswith((".yaml", ".yml")):
        return f"{word} is no option; a YAML is given by --config {word}."
    return f"{word} is no option; give a YAML by --config FILE and its keys by --model.lr 1e-5 and the like."


def _unknown_key(found: dict[str, str], keys: Sequence[str]) -> str:
    option = found["option"].removeprefix("--").partition("=")[0]
    key = f"{found['group']}.{option}" if "group" in found else option
    return unknown_key(key, keys)


def _in_class(text: str, key: str, classes: Sequence[type]) -> str | None:
    """A mistake in an entry of a list of classes, such as ``trainer.callbacks``."""
    names = [cls.__name__ for cls in classes]
    problem = re.search(r"Problem with given class_path '([^']+)':\n(.+(?:\n.+)?)", text)
    if problem is None:
        unknown = re.search(r"Expected a dot import path string: (\S+)", text)
        if unknown is None:
            return None
        near = hint(unknown[1], names)
        where = "trainer.callbacks" if key == "config" else key  # of --trainer.callbacks.help
        all_of_them = f"Known are {', '.join(names)}; your own is named module.Class."
        return f"{where}: there is no {unknown[1]!r}{f';{near}' if near else '.'} {all_of_them}"
    path, rest = problem[1], problem[2].removeprefix("- ")
    name = path.rpartition(".")[2]
    if option := re.match(r"Option '([^']+)' is not accepted", rest):
        if name == "Callback":
            return f"{key}: {_wrong_entry(option[1].partition('.')[0], text, names)}"
        known = _arguments(name, classes)
        return f"{key}: {name} has no {option[1]!r};{hint(option[1], known) or f' it has {some(known)}.'}"
    if inner := re.match(r'(?:Parser|Configuration) key "([^"]+)":\n?', rest):
        where = f"{key}: {name}.{inner[1]}"
        _, _, line = text[problem.start() :].partition(inner[0])
        union = _UNION.match(line.strip())  # what follows is about the list that the class stands in
        line = union[0] if union else line.strip().partition("\n")[0]
        return _wrong_type(line, where) or f"{where}: {_short(line)}"
    return f"{key}: {path} cannot be used: {_short(rest.splitlines()[0]).rstrip('.')}.{_sought(path, rest)}"


def _wrong_entry(word: str, text: str, names: Sequence[str]) -> str:
    """An entry that holds more than ``class_path`` and ``init_args``, or names its class by a key."""
    if word in names:
        return f"{word} stands as a key; write {{class_path: {word}, init_args: {{...}}}}."
    given = re.search(r"^Given value: (.+)$", text, re.MULTILINE)
    for name, more in _loose_keys(given[1] if given else ""):
        if not hint(more, ["init_args"]):
            return (
                f"{name} has {more!r} beside class_path; its arguments stand under init_args: "
                f"{{class_path: {name}, init_args: {{{more}: ...}}}}."
            )
    near = hint(word, ["class_path", "init_args"])
    return (
        f"an entry has the unknown key {word!r}{f';{near}' if near else '.'} "
        "It may hold class_path and init_args."
    )


def _loose_keys(given: str) -> Iterator[tuple[str, str]]:
    """Class and key of what stands beside ``class_path`` in a list of classes, as jsonargparse prints it."""
    try:
        entries = ast.literal_eval(given)
    except (ValueError, SyntaxError):
        return
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and "class_path" in entry:
            yield from ((str(entry["class_path"]), str(key)) for key in entry if key not in _ENTRY)


def _sought(path: str, problem: str) -> str:
    """Where a class of the user's own was looked for, if its module is missing."""
    missing = re.search(r"No module named '([^']+)'", problem)
    if missing is None or missing[1].partition(".")[0] != path.partition(".")[0]:
        return ""
    file = Path(*path.split(".")[:-1]).with_suffix(".py")
    return f" A class of your own is looked for in the folder that the command runs in: {Path.cwd() / file}."


def _wrong_type(text: str, key: str) -> str | None:
    value = re.search(r"(?:Got|Given) value: (.+)", text)
    if value is None:
        return None
    if key == "ckpt_path":
        return (
            "ckpt_path must be last, which goes on with the run in its folder (the key run, or --run DIR), or null, "
            f"got {value[1].strip()!r}."
        )
    if key == "trainer.precision":
        return f"{key} must be bf16-mixed or 32-true, got {value[1].strip()!r}."
    forms = _subtypes(text)
    if forms is None:
        expected = r"Expected a (<class '[^']+'>|typing\.Literal\[[^\]]*\]|tuple with \d+ elements)"
        forms = [_form(found[1]) or found[1] for found in re.finditer(expected, text)]
    kinds = list(dict.fromkeys(forms))
    if not kinds:
        return None
    whole = re.findall(r"^Given value: (.+)", text, re.MULTILINE)  # of a union; before it, the part at fault
    word = (whole or [value[1]])[-1].strip()
    plain = {"a list", "a list of texts"} & set(kinds) and re.fullmatch(r"[\w./-]+", word)
    *most, last = kinds
    listed = f"{', '.join(most)} or {last}" if most else last
    return f"{key} must be {listed}, got {word!r}{f'; write [{word}]' if plain else ''}."


def _subtypes(text: str) -> list[str] | None:
    """The forms that a union accepts; None where one of them has no plain name, or the type is no union."""
    found = re.search(r"^Subtypes: \[(.+)\]$", text, re.MULTILINE)
    if found is None:
        return None
    forms = [_form(subtype) for subtype in re.split(r", (?![^\[]*\])", found[1])]
    named = [form for form in forms if form is not None]
    return named if len(named) == len(forms) else None


def _form(kind: str) -> str | None:
    """What a user calls a type as jsonargparse prints it; None: it has no plain name."""
    if found := re.fullmatch(r"<class '([^']+)'>", kind):
        name = found[1].rpartition(".")[2]
        return _TYPES.get(name, name)
    if found := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        words = [word.strip(" '\"") for word in found[1].split(",")]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if found := re.fullmatch(r"tuple with (\d+) elements", kind):
        return f"a list of {found[1]}"
    if found := re.fullmatch(r"(?:list|collections\.abc\.Sequence)\[(\w+)\]", kind):
        return f"a list of {_MANY[found[1]]}" if found[1] in _MANY else None
    return None


def _arguments(name: str, classes: Sequence[type]) -> list[str]:
    cls = next((cls for cls in classes if cls.__name__ == name), None)
    return [] if cls is None else [word for word in inspect.signature(cls).parameters if word != "self"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORTEST else line[:_SHORTEST] + "..."


def user_error_in(error: BaseException | None) -> UserError | None:
    """The engine's own message inside an error that a parser raised on its way."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
