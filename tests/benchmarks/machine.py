"""The line under a table that says where its numbers were measured."""

import os
import platform
from importlib.metadata import version

import torch


def machine(*packages: str) -> str:
    """Processor, cores, threads and versions.

    Args:
        packages: whose versions count beside Python's and torch's.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, {versions}"
    )
