"""Takes tokens, keys and passwords out of whatever a run writes or says."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any, TextIO, cast

from typing_extensions import override

MARK = "[redacted]"
"""What stands where a secret stood."""
_SHORTEST = 8
"""Letters from which the value of a variable of the environment is taken for a secret, and looked for everywhere."""
_VARIABLE = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|SECRET_ACCESS_KEY|ACCESS_KEY_ID|PRIVATE_KEY)$",
    re.IGNORECASE,
)
_WORD = r"(?:api|access|secret|private)_?key(?:_id)?|(?:api|access|auth|hf|hub|session|security)_?token"
_KEY = re.compile(
    rf"(?:.*[_.-])?(?:{_WORD}|token|password|passwd|pwd|secret|client_secret|credentials?)", re.IGNORECASE
)
"""Keys of a config whose text is a secret, whatever it looks like."""
_ISSUED = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"
)
"""Secrets that are known by their look: those of the hub, of clouds and of the usual services."""
_USER = re.compile(
    r"\b((?:https?|wss?)://)[^\s/?#@\"'<>]+@|\b([a-z][a-z0-9+.-]*://[^\s/?#@:\"'<>]*):[^\s/?#@\"'<>]+@",
    re.IGNORECASE,
)
"""The user and password of an address; elsewhere than on the web a user alone is no secret (``git@``)."""
_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:token|signature|credential|secret|password|passwd|api[_-]?key|access[_-]?key(?:id)?)"
    r"|key|sig|auth|pwd|policy|key-pair-id)=)[^\s&;#\"'<>]+",
    re.IGNORECASE,
)
"""Values of an address's query that let whoever knows them in, such as those of signed addresses."""
_NAMED = rf"(?<![A-Za-z])(?:{_WORD}|password|passwd|client_secret)[\"']?\s*[:=]\s*"
_QUOTED = re.compile(rf"({_NAMED})([\"'])(?:(?!\2).)+\2", re.IGNORECASE)
"""A secret in quotes behind its name: ``api_key='...'``, ``"password": "..."``."""
_SAID = re.compile(
    rf"({_NAMED}|authorization:\s*\w+\s+|bearer\s+)(?!\[redacted\])[^\s\"',;}}\]]{{4,}}", re.IGNORECASE
)
"""A secret behind its name: ``api_key=...``, ``Bearer ...``."""

_WORDS = re.compile(r"key|token|passw|pwd|secret|sig|auth|credential|policy|bearer", re.IGNORECASE)
"""One of these stands before every secret that only its name tells; most texts have none."""


def redacted(text: str) -> str:
    """A text with ``[redacted]`` for every secret in it; one without any comes back as it is.

    A secret is what looks like one (a token of the hub, a signed address, a password in an address or behind the word),
    and the value of every variable of the environment that is named as one (``HF_TOKEN``, ``WANDB_API_KEY``).
    """
    for value in _values(tuple(_named_secret(os.environ))):
        text = text.replace(value, MARK)
    text = _ISSUED.sub(MARK, text)
    if "://" in text:
        text = _USER.sub(lambda found: f"{found[1] or f'{found[2]}:'}{MARK}@", text)
    if _WORDS.search(text):
        text = _QUERY.sub(rf"\g<1>{MARK}", _QUOTED.sub(rf"\g<1>\g<2>{MARK}\g<2>", text))
        text = _SAID.sub(rf"\g<1>{MARK}", text)
    return text


def without_secrets(value: Any) -> Any:
    """A plain value, such as a config, in which no text holds a secret and no text stands under the name of one."""
    if isinstance(value, Mapping):
        return {
            key: MARK if isinstance(inner, str) and inner and _is_secret(key) else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


@contextmanager
def redacted_output() -> Iterator[None]:
    """Whatever is printed, logged or warned of inside, by anybody, loses its secrets on the way out."""
    import sys

    with redirect_stdout(_Redacting.over(sys.stdout)), redirect_stderr(_Redacting.over(sys.stderr)):
        yield


class _Redacting(io.TextIOBase):
    """A stream that hands every text on without its secrets, and is the other one in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @classmethod
    def over(cls, stream: TextIO) -> TextIO:
        return stream if isinstance(stream, cls) else cast(TextIO, cls(stream))

    @override
    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    @override
    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # a stream of texts, not of bytes
        for line in lines:
            self.write(line)

    @override
    def flush(self) -> None:
        self._stream.flush()

    @override
    def isatty(self) -> bool:
        return self._stream.isatty()

    @override
    def fileno(self) -> int:
        return self._stream.fileno()

    @override
    def writable(self) -> bool:
        return True

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there
        return self._stream.encoding

    def __getattr__(self, name: str) -> Any:
        """All else, such as ``reconfigure``, and ``buffer``, which takes bytes: nobody's texts."""
        return getattr(self._stream, name)


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def _named_secret(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if len(value) >= _SHORTEST and _VARIABLE.search(name):
            yield value


@lru_cache(maxsize=8)
def _values(found: tuple[str, ...]) -> tuple[str, ...]:
    """Without doubles, the longest first: one may hold another."""
    return tuple(sorted(set(found), key=lambda value: (-len(value), value)))
