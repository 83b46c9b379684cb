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
        line = rest[inner.end() :].strip() or text[text.index(inner[0]) + len(inner[0]) :].strip()
        return _wrong_type(line, where) or f"{where}: {_short(line)}"
    return f"{key}: {path} cannot be used: {_short(rest.splitlines()[0])}."


def _wrong_type(text: str, key: str) -> str | None:
    value = re.search(r"(?:Got|Given) value: (.+)", text)
    if value is None:
        return None
    if key == "trainer.precision":
        return f"{key} must be bf16-mixed or 32-true, got {value[1].strip()!r}."
    kinds: list[str] = []
    for expected in re.finditer(
        r"Expected a (<class '[^']+'>|typing\.Literal\[[^\]]*\]|tuple with \d+ elements)", text
    ):
        words = _kind(expected[1])
        if words not in kinds:
            kinds.append(words)
    if not kinds:
        return None
    given = value[1].strip()
    plain = kinds == ["a list"] and re.fullmatch(r"[\w./-]+", given)
    return f"{key} must be {' or '.join(kinds)}, got {given!r}{f'; write [{given}]' if plain else ''}."


def _kind(expected: str) -> str:
    if expected.startswith("<class"):
        name = expected.split("'")[1].rpartition(".")[2]
        return _TYPES.get(name, name)
    if expected.startswith("typing.Literal"):
        return "one of " + ", ".join(word.strip(" '\"") for word in expected[15:-1].split(","))
    return "a list of " + expected.split()[2]


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
