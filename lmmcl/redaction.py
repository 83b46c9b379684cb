"""Takes tokens, keys and passwords out of whatever a run writes or says."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from threading import RLock
from typing import Any, TextIO, cast

from typing_extensions import override

MARK = "[redacted]"
"""What stands where a secret stood."""
_SHORTEST = 8
"""Letters from which the value of a variable of the environment is taken for a secret, and looked for everywhere."""
_VARIABLE = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|(^|_)(TOKEN|SECRET|PASS|PAT|API_?KEY|ACCESS_KEY_ID|(SECRET|ACCESS|ACCOUNT|SIGNING|ENCRYPTION|PRIVATE)_KEY))$",
    re.IGNORECASE,
)
_WORD = (
    r"(?:api|access|secret|private|account|signing|encryption)_?key(?:_id)?"
    r"|(?:api|access|auth|hf|hub|session|security|refresh|bearer)_?tokens?"
)
_KEY = re.compile(
    rf"(?:.*_)?(?:{_WORD}|token|passwords?|passwd|passphrase|pwd|secrets?|credentials?|auth|authorization|bearer|cookies?"
    r"|signature|signed_url)|.*(?:password|passwd)"
)
"""Names, in small letters with words parted by ``_``, whose value is a secret, whatever it looks like."""
_OF_TEXTS = re.compile(
    r"(?:.*_)?(?:pad|bo[adisv]|eo[adilmpstv]|so[ist]|unk|sep|cls|mask|fim|images?|img|videos?|audio|vision|no_speech|start"
    r"|end|begin|stop|break|prefix|suffix|middle|newline|patch|slice|tile|special|extra|added|fake|placeholder|delimiter"
    r"|separator|blank|question|prompt|answer|lang|lang_code|language|utterance|subword|max|min|num|n|per)_token"
)
"""Names, written so, of tokens that texts are made of: a tokenizer's, as ``pad_token``, and counts of them."""
_SPECIAL = re.compile(r"</?[^<>\s]{1,40}>|\[[A-Z_0-9]{1,20}\]")
"""How tokenizers write a token of their own: ``<|endoftext|>``, ``</s>``, ``[PAD]``."""
_ISSUED = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|[rs]k_(?:live|test)_\w{10,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|nvapi-[\w-]{30,}"
    r"|gsk_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|(?<![\w-])eyJ[\w-]{8,4096}\.eyJ[\w-]{8,4096}\.[\w-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]+(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
"""Secrets that are known by their look: those of the hub, of clouds and of the usual services."""
_USER = re.compile(
    r"\b((?:https?|wss?)://)[^\s/?#\"'<>]+@|\b([a-z][a-z0-9+.-]{0,30}://[^\s/?#@:\"'<>]*):[^\s/?#\"'<>]+@",
    re.IGNORECASE,
)
"""The user and password of an address; elsewhere than on the web a user alone is no secret (``git@``)."""
_QUERY = re.compile(
    r"([?&;#](?:[\w.-]*(?:token|signature|credential|secret|password|passwd|api[_-]?key|access[_-]?key(?:id)?|hmac|jwt)"
    r"|key|sig|auth|pwd|policy|key-pair-id)=)[^\s&;#\"'<>]+",
    re.IGNORECASE,
)
"""Values of an address's query that let whoever knows them in, such as those of signed addresses."""
_VALUE = r"(?!\[redacted\])(?:[^\s\"',;}\]]|[,;](?=[^\s\"'])){4,}"
_NAMED = rf"(?:{_WORD.replace('_?', '[_-]?')}|password|passwd|passphrase|client_?secret)[\"']?\s*[:=]\s*"
_QUOTED = re.compile(rf"({_NAMED})([\"'])(?:(?!\2).)+\2", re.IGNORECASE)
"""A secret in quotes behind its name: ``api_key='...'``, ``"password": "..."``."""
_SAID = re.compile(rf"({_NAMED}|bearer\s+){_VALUE}", re.IGNORECASE)
"""A secret behind its name: ``api_key=...``, ``Bearer ...``."""
_HEADER = re.compile(
    r"(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|digest|token|negotiate)\s+)?)[^\r\n\"']+",
    re.IGNORECASE,
)
"""What a request says of who asks, to the end of its line or quotes, by whatever scheme."""
_SET = re.compile(
    rf"(?<![\w.-])([\w.-]*(?:token|secret|credentials?))(=[\"']?|[\"']\s*:\s*[\"'])({_VALUE})", re.IGNORECASE
)
"""A value that is set, as in a shell or in JSON; its name says whether it is a secret."""

_WORDS = re.compile(r"key|token|pass|pwd|secret|sig|auth|credential|policy|bearer|hmac|jwt", re.IGNORECASE)
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
        text = _SAID.sub(rf"\g<1>{MARK}", _HEADER.sub(rf"\g<1>{MARK}", text))
        text = _SET.sub(_without_value, text)
    return text


def without_secrets(value: Any) -> Any:
    """A plain value, such as a config, in which no text holds a secret and nothing stands under the name of one.

    Tokens that texts are made of are none: ``pad_token``, ``image_token``, ``max_tokens``, ``token_type_ids``.
    """
    if isinstance(value, Mapping):
        return {
            key: _hidden(inner, key) if _is_secret(key) else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


@contextmanager
def redacted_output() -> Iterator[None]:
    """Whatever is printed, logged or warned of inside, by anybody, loses its secrets on the way out."""
    import sys

    streams = _Redacting.over(sys.stdout), _Redacting.over(sys.stderr)
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()


class _Redacting(io.TextIOBase):
    """A stream that hands every text on without its secrets, and is the other one in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: list[str] = []
        self._lock = RLock()

    @classmethod
    def over(cls, stream: TextIO) -> TextIO:
        return stream if isinstance(stream, cls) else cast(TextIO, cls(stream))

    @override
    def write(self, text: str) -> int:
        """Line by line: a secret and its name may come one after the other."""
        with self._lock:
            self._held.append(text)
            if "\n" in text or "\r" in text:
                said = "".join(self._held)
                end = max(said.rfind("\n"), said.rfind("\r")) + 1
                self._held = [said[end:]]
                self._stream.write(redacted(said[:end]))
        return len(text)

    @override
    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # a stream of texts, not of bytes
        for line in lines:
            self.write(line)

    @override
    def flush(self) -> None:
        with self._lock:
            said, self._held = "".join(self._held), []
            self._stream.write(redacted(said))
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
    if not isinstance(key, str):
        return False
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", key).lower()
    return _KEY.fullmatch(parted) is not None and _OF_TEXTS.fullmatch(parted) is None


def _hidden(value: Any, key: object) -> Any:
    """What stands under the name of a secret, without any text or number; yes, no and nothing tell none."""
    if isinstance(value, Mapping):
        return {name: _hidden(inner, key) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, key) for inner in value]
    if isinstance(value, bool) or value in (None, ""):
        return value
    of_texts = str(key).lower().endswith("token") and (
        not isinstance(value, str) or _SPECIAL.fullmatch(value) is not None
    )
    return value if of_texts else MARK


def _without_value(found: re.Match[str]) -> str:
    secret = _is_secret(found[1]) and _SPECIAL.fullmatch(found[3]) is None
    return f"{found[1]}{found[2]}{MARK}" if secret else found[0]


def _named_secret(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if len(value) >= _SHORTEST and _VARIABLE.search(name) and _OF_TEXTS.fullmatch(name.lower()) is None:
            yield value


@lru_cache(maxsize=8)
def _values(found: tuple[str, ...]) -> tuple[str, ...]:
    """Without doubles, the longest first: one may hold another."""
    return tuple(sorted(set(found), key=lambda value: (-len(value), value)))
