"""Measures how many rows and pictures of the world one core draws in a second."""

from time import perf_counter

from lmmcl.world.tasks import TASKS, WorldSource


def main(number: int = 2000) -> None:
    """Prints pictures and rows a second for every task."""
    print(f"{'task':12s} {'rows/s':>8s} {'pictures/s':>11s}")
    for name in TASKS:
        rows = WorldSource(name, train=number).split("train")
        start = perf_counter()
        drawn = [rows[index] for index in range(number)]
        middle = perf_counter()
        for row in drawn:
            row.images[0]()  # type: ignore[operator]  # the world's pictures are callables
        end = perf_counter()
        print(f"{name:12s} {number / (middle - start):8.0f} {number / (end - middle):11.0f}")


if __name__ == "__main__":
    main()
