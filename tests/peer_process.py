"""One of some processes that watch each other, without anything else of a run; started by test_peers.py."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lmmcl.parallel import peers
from lmmcl.parallel.peers import Peers


class Exchange:
    """Tells processes what the others have, through files."""

    def __init__(self, folder: Path, rank: int, world: int) -> None:
        self._folder, self._rank, self._world, self._turn = folder, rank, world, 0

    def __call__(self, mine: Any) -> list[Any]:
        self._turn += 1
        paths = [self._folder / f"{self._turn}-{rank}" for rank in range(self._world)]
        paths[self._rank].with_suffix(".new").write_text(json.dumps(mine))
        paths[self._rank].with_suffix(".new").rename(paths[self._rank])
        while not all(path.exists() for path in paths):
            time.sleep(0.005)
        return [json.loads(path.read_text()) for path in paths]


def ended(told: Path, dead: int) -> None:
    """Fails, as what is to be done at the end may."""
    told.write_text(str(dead))
    raise OSError("no room left")


def main(folder: Path, rank: int, world: int) -> None:
    """Watches, then does what stands in the file of its rank: waits for ever, leaves, fails."""
    peers.GRACE_SECONDS, peers._NEWS_SECONDS = 0.5, 0.05
    watched = Peers("Go on with --ckpt_path last.", lambda dead: ended(folder / f"ended-{rank}", dead))
    watched.begin(rank, "127.0.0.1", Exchange(folder, rank, world))
    (folder / f"watches-{rank}").write_text(str(os.getpid()))
    order = folder / f"order-{rank}"
    while not order.exists():
        time.sleep(0.005)
    if order.read_text() == "fork":
        if os.fork() == 0:
            time.sleep(2)  # as a worker of a data loader, which outlives its parent for some seconds
            os._exit(0)
        (folder / f"forked-{rank}").touch()
        time.sleep(60)
    watched.leave(ValueError("a bad row") if order.read_text() == "fail" else None)
    print("left")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
