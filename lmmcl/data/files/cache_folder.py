"""Where what was found out about data is kept: never beside the data."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def cache_folder(kind: str) -> Path:
    """The folder for one kind of finding: ``lmmcl/<kind>`` under ``XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lmmcl" / kind


def keep(file: Path, data: bytes) -> None:
    """Writes a finding so that no process reads half of it; a disk that takes none is said and does no harm."""
    waiting = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        waiting.write_bytes(data)
        os.replace(waiting, file)
    except OSError as error:
        log.warning("%s cannot be written (%s): found again at every start; set XDG_CACHE_HOME.", file, error)
