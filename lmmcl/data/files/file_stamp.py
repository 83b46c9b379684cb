"""What tells, without reading it, that a file is no longer what it was."""

import os
from pathlib import Path


def file_stamp(file: str | Path) -> str:
    """Size, time of change and time of the last change of its entry, which nothing sets back.

    The first two do not do: copying and unpacking keep times, and shards and uncompressed pictures have one size all.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(file)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
