"""How long a preflight of a large local set takes: JSONL and picture files, made here.

    python -m tests.benchmarks.preflight [--rows 100000] [--folder DIR]

Every row has a question of its own and a picture file of its own (64 × 64 pixels, JPEG), so that neither the rendering
of conversations nor the looking at pictures can remember anything. A folder that holds the set is used again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lmmcl.data.batches.order import draw

SIDE = 64


def make_set(folder: Path, rows: int) -> Path:
    """Writes the rows and their pictures, unless they are there, and returns the file of rows."""
    path = folder / f"rows-{rows}.jsonl"
    if path.exists():
        return path
    pictures = folder / "pictures"
    lines = []
    for i in range(rows):
        place = pictures / f"{i // 1000:03d}" / f"{i}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = draw(12, i, "preflight").view(np.uint8)[:96].reshape(4, 8, 3)
        Image.fromarray(small).resize((SIDE, SIDE)).save(place, quality=85)
        question = f"What stands on part number {i} of the line? Answer with the option's letter."
        turns = [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": "ABCD"[i % 4]},
        ]
        lines.append({"id": f"part-{i}", "image": str(place.relative_to(folder)), "conversations": turns})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    folder = words.folder or Path(tempfile.mkdtemp())
    rows = make_set(folder, words.rows)
    task = {"task": "parts", "path": str(rows), "scorer": "letter"}
    command = [
        sys.executable,
        "-m",
        "lmmcl",
        "preflight",
        "--model.path",
        "mini",
        "--run",
        str(folder / "run"),
    ]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "--data.tasks", json.dumps([task])], check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{words.rows:,} rows: {seconds:.1f} s, {busy:.1f} s of work on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
