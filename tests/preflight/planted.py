"""A small local set with planted faults: every kind of mistake that a preflight is to name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROWS = {"train": 24, "test": 8}


def picture(path: Path, number: int) -> Path:
    """Writes a picture unlike every other number's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 48), (number % 256, (7 * number) % 256, 90)).save(path)
    return path


def record(name: str, number: int, question: str | None = None, answer: str | None = None) -> dict[str, Any]:
    """One sound row about one picture."""
    asked = question or f"What is on picture {number} of the shelf? Answer with the letter."
    turns = [
        {"from": "human", "value": f"<image>\n{asked}"},
        {"from": "gpt", "value": answer or "ABCD"[number % 4]},
    ]
    return {"id": f"{name}-{number}", "image": f"{name}/{number}.png", "conversations": turns}


class PlantedSet:
    """Two files of sound rows and their pictures, in which a test plants what it wants.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, list[Any]] = {}
        for shift, (part, count) in enumerate(ROWS.items()):
            self.rows[part] = [record(part, 100 * shift + i) for i in range(count)]
            for row in self.rows[part]:
                picture(folder / row["image"], int(row["id"].rpartition("-")[2]))
        self.task: dict[str, Any] = {
            "task": "shelf",
            "path": {part: str(folder / f"{part}.jsonl") for part in ROWS},
            "scorer": "letter",
        }
        self.more_tasks: list[Any] = []
        self.words: list[str] = []

    def write(self) -> Path:
        """Writes the files; returns a config for them."""
        for part, rows in self.rows.items():
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (self.folder / f"{part}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        config = self.folder / "planted.yaml"
        data = {"tasks": [self.task, *self.more_tasks], "batch_size": 8}
        lines = [f"data: {json.dumps(data)}", "trainer: {precision: 32-true, accelerator: cpu}"]
        config.write_text("\n".join([*lines, f"run: {self.folder / 'run'}", ""]))
        return config

    # Faults, one kind each

    def missing_picture(self) -> None:
        (self.folder / self.rows["train"][1]["image"]).unlink()

    def broken_picture(self) -> None:
        (self.folder / self.rows["train"][2]["image"]).write_bytes(b"no picture at all")

    def cut_picture(self) -> None:
        path = self.folder / self.rows["train"][3]["image"]
        Image.effect_noise((64, 64), 90).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-400])

    def empty_answer(self) -> None:
        self.rows["train"][4]["conversations"][1]["value"] = " "

    def duplicate_id(self) -> None:
        self.rows["train"][5]["id"] = self.rows["train"][6]["id"]

    def picture_without_place(self) -> None:
        row = self.rows["train"][7]
        row["conversations"][0]["value"] = "<image><image> Which one? Answer with the letter."

    def bad_json(self) -> None:
        self.rows["train"][8] = '{"id": "train-8", '

    def too_long(self) -> None:
        self.rows["train"][9]["conversations"][0]["value"] += " and what else" * 300

    def gold_unreadable(self) -> None:
        self.rows["test"][1]["conversations"][1]["value"] = "a blue one"

    def wrong_gold(self) -> None:
        self.rows["test"][2] |= {"gold": "A"}
        self.rows["test"][2]["conversations"][1]["value"] = "D"

    def row_in_train_and_test(self) -> None:
        """The same question about a copy of the same picture under another name."""
        source, copy = self.rows["train"][10], self.rows["test"][3]
        copy["conversations"] = source["conversations"]
        (self.folder / copy["image"]).write_bytes((self.folder / source["image"]).read_bytes())

    def same_row_in_both_files(self) -> None:
        self.rows["test"].append({**self.rows["train"][11], "id": "test-copy"})

    def recipe_of_nothing(self) -> None:
        self.more_tasks.append({"task": "count", "max_train_samples": 8, "recipe": "llm.nothing"})

    def unknown_column(self) -> None:
        rows = [{"id": i, "frage": f"What is {i}?", "answer": "A"} for i in range(20)]
        path = self.folder / "columns.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.more_tasks.append({"task": "columns", "path": str(path), "scorer": "letter"})

    def unknown_task(self) -> None:
        self.more_tasks.append("cuont")

    def unknown_scorer(self) -> None:
        self.more_tasks.append({"task": "other", "path": str(self.folder / "test.jsonl"), "scorer": "lettre"})

    def little_memory(self) -> None:
        self.words += ["--gpu_memory", "200KiB"]


FAULTS: dict[str, tuple[Callable[[PlantedSet], None], str, tuple[str, ...]]] = {
    "missing picture": (PlantedSet.missing_picture, "rows", ("train.jsonl, row 2", "train/1.png")),
    "broken picture": (PlantedSet.broken_picture, "pictures", ("train.jsonl, row 3", "train/2.png")),
    "cut picture": (PlantedSet.cut_picture, "pictures", ("train.jsonl, row 4", "train/3.png")),
    "empty answer": (PlantedSet.empty_answer, "rows", ("train.jsonl, row 5", "answer")),
    "duplicate id": (PlantedSet.duplicate_id, "rows", ("train.jsonl, row 7", "'train-6'")),
    "picture without place": (PlantedSet.picture_without_place, "rows", ("train.jsonl, row 8", "place")),
    "bad JSON": (PlantedSet.bad_json, "rows", ("train.jsonl, row 9", "JSON")),
    "too long": (PlantedSet.too_long, "length", ("'train-9'", "512 tokens", "max_length")),
    "unreadable gold": (PlantedSet.gold_unreadable, "scorer", ("'test-101'", "'a blue one'")),
    "wrong gold": (PlantedSet.wrong_gold, "scorer", ("'test-102'", "'D'", "'A'")),
    "train/test duplicate": (PlantedSet.row_in_train_and_test, "duplicates", ("'test-103'", "'train-10'")),
    "same row in both files": (PlantedSet.same_row_in_both_files, "rows", ("test.jsonl, row 9", "two parts")),
    "recipe of nothing": (PlantedSet.recipe_of_nothing, "recipe", ("llm.nothing",)),
    "unknown column": (PlantedSet.unknown_column, "tasks", ("columns", "'question'", "frage")),
    "unknown task": (PlantedSet.unknown_task, "tasks", ("'cuont'", "did you mean 'count'")),
    "unknown scorer": (PlantedSet.unknown_scorer, "tasks", ("'lettre'", "letter")),
    "little memory": (PlantedSet.little_memory, "memory", ("0.2 MiB", "too small")),
}
"""Kind of fault: how it is planted, the check that names it, and what it must say."""
