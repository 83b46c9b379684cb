"""Turns what jsonargparse says about a config into one line: the key, the rule, the value, the way out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

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
    if found := re.search(r"argument (--\S+): expected one argument", text):
        return f"{found[1]} needs a value behind it."
    if found := re.search(r'argument \w+ --> (\S+):|Linked "(.+?)" must be given via', text):
        return moved(found[1] or found[2])
    if text.startswith("Problems parsing config:"):
        return f"--config: this is no valid YAML: {' '.join(text.split()[3:])}."
    if text.startswith("Unexpected config:"):
        return "--config: a YAML must hold keys (model, data, trainer, run, seed), not a list or a text."
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


def hint(word: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` with the nearest known word; empty where nothing is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" did you mean {near[0]}?" if near else ""


def _unknown_word(found: dict[str, str], keys: Sequence[str]) -> str:
    if found["option"].startswith("--"):
        return _unknown_key(found, keys)
    return f"{found['option']} is no option; give a YAML by --config FILE and its keys by --model.lr 1e-5 and the like."


def _unknown_key(found: dict[str, str], keys: Sequence[str]) -> str:
    option = found["option"].removeprefix("--").partition("=")[0]
    key = f"{found['group']}.{option}" if "group" in found else option
    group, dot, name = key.partition(".")
    groups = sorted({other.partition(".")[0] for other in keys})
    if dot and group in groups:
        names = [other.partition(".")[2] for other in keys if other.startswith(f"{group}.")]
        near = hint(name.partition(".")[0], names)
        return f"{group} has no key {name!r};{near or f' it has {_some(names)}.'}"
    return f"there is no key {group!r};{hint(group, groups) or f' there are {_some(groups)}.'}"


def _in_class(text: str, key: str, classes: Sequence[type]) -> str | None:
    """A mistake in an entry of a list of classes, such as ``trainer.callbacks``."""
    names = [cls.__name__ for cls in classes]
    problem = re.search(r"Problem with given class_path '([^']+)':\n(.+(?:\n.+)?)", text)
    if problem is None:
        unknown = re.search(r"Expected a dot import path string: (\S+)", text)
        if unknown is None:
            return None
        near = hint(unknown[1], names)
        return f"{key}: there is no {unknown[1]!r};{near} Known are {', '.join(names)}; your own is named module.Class."
    path, rest = problem[1], problem[2].removeprefix("- ")
    name = path.rpartition(".")[2]
    if option := re.match(r"Option '([^']+)' is not accepted", rest):
        if name == "Callback":
            word = option[1].partition(".")[0]
            near = hint(word, ["class_path", "init_args"])
            return (
                f"{key}: an entry has the unknown key {word!r};{near} It may hold class_path and init_args."
            )
        known = _arguments(name, classes)
        return f"{key}: {name} has no {option[1]!r};{hint(option[1], known) or f' it has {_some(known)}.'}"
    if inner := re.match(r'(?:Parser|Configuration) key "([^"]+)":\n?', rest):
        where = f"{key}: {name}.{inner[1]}"
        _, _, line = text[problem.start() :].partition(inner[0])
        union = _UNION.match(line.strip())  # what follows is about the list that the class stands in
        line = union[0] if union else line.strip().partition("\n")[0]
        return _wrong_type(line, where) or f"{where}: {_short(line)}"
    return f"{key}: {path} cannot be used: {_short(rest.splitlines()[0])}."


def _wrong_type(text: str, key: str) -> str | None:
    value = re.search(r"(?:Got|Given) value: (.+)", text)
    if value is None:
        return None
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


def _some(words: Sequence[str], most: int = 12) -> str:
    names = list(dict.fromkeys(word.partition(".")[0] for word in words))
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


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
