"""What a record of a conversation says and no row holds: refused, as the row would ask or teach something else."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmmcl.data.bad_row import RowError

_MEDIA = {"video": "<video>", "videos": "<video>", "audio": "<audio>", "audios": "<audio>"}
"""Keys of what is no picture, and its sign in a text."""
_SAID = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold more words of it than its content."""
_WEIGHTS = ("weight", "loss", "train")
"""Keys by which a turn says whether, or how much, it is learned."""


def refuse_unread(
    record: Mapping[str, Any], turns: Sequence[Any], texts: Sequence[str], pictures: int, where: str
) -> None:
    """Refuses a conversation that a row would hold in part only.

    Args:
        record: what stands in the file.
        turns: of the conversation, as they stand there.
        texts: what is asked, of the system's and the user's turns.
        pictures: how many the row has.
        where: its place, for errors.

    Raises:
        RowError: its system prompt or its tools stand beside its turns; it shows a video or plays a sound; a turn calls
            tools, holds a line of thought, or is not to be learned as every other one.
    """
    for key, sign in _MEDIA.items():
        if record.get(key) and (not pictures or any(sign in text for text in texts)):
            raise RowError(
                where, f"a row shows pictures alone, got the {key} {str(record[key])[:60]!r}; remove the row."
            )
    roles = [turn.get("role", turn.get("from")) for turn in turns if isinstance(turn, Mapping)]
    if record.get("system") and "system" not in roles:
        raise RowError(
            where,
            f"a system prompt must be the first turn, got {str(record['system'])[:60]!r} in 'system'; "
            "make it a turn of that role there, or rename the key.",
        )
    if record.get("tools") not in (None, "", "[]", []):
        raise RowError(where, "a row has no tools, got some in 'tools'; remove the row, or rename the key.")
    for turn in turns:
        for key in _SAID:
            if turn.get(key):
                raise RowError(
                    where,
                    f"a turn's words must all stand in its content, got {str(turn[key])[:60]!r} in {key!r}; write them "
                    "there, or remove the key.",
                )
        for key in _WEIGHTS:
            if turn.get(key) not in (None, 1):
                raise RowError(
                    where,
                    f"every answer is learned alike, got {key}: {turn[key]!r}; cut the conversation so that it ends "
                    "with the answer to learn, or remove the key.",
                )
