"""Memory that a step frees is there for the next one."""

import os
import subprocess
import sys

import pytest

STEPS = """
import ctypes, resource, sys
from lmmcl.building.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
before = 0
for step in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [c.malloc(12 << 20) for _ in range(10)]
    for one in activations:
        c.memset(one, 1, 12 << 20)
    for one in activations:
        c.free(one)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    """Pages that the system cleared for the last of three equal steps, of 30,720 pages each."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", STEPS, way], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_step_finds_the_memory_that_the_one_before_freed() -> None:
    assert 5 * faults("kept") < faults("given back")
