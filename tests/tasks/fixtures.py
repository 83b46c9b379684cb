"""Makes small local copies of the study's hub data: the hub's columns, types and files, few rows, tiny pictures."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, List, Value, disable_progress_bars
from PIL import Image as Pixels

from lmmcl.data.pictures.picture_store import picture_path
from lmmcl.tasks.pictures import pictures_folder
from lmmcl.tasks.question import LETTER_PROMPT, lettered
from lmmcl.tasks.species import SPECIES

TEXT, WHOLE = Value("string"), Value("int32")
Record = dict[str, Any]


@dataclass(frozen=True)
class Copy:
    """One file of a data set: where it lies, its columns, and a maker of its rows.

    Args:
        file: path below the data set's folder, as on the hub.
        split: its name.
        features: the columns.
        row: makes a row of its number and its picture.
        config: the configuration that the card names; None: the default one.
    """

    file: str
    split: str
    features: Features
    row: Callable[[int, Record], Record]
    config: str | None = None


def picture(*key: object) -> bytes:
    """A PNG of 24 by 32 pixels, another one for every key."""
    pixels = hashlib.shake_256(repr(key).encode()).digest(24 * 32 * 3)
    image = Pixels.frombytes("RGB", (24, 32), pixels)
    with BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


def _cub_train(number: int, image: Record) -> Record:
    return {"image": image, "label": number * 37 % 200, "bbox": [1.0, 2.0, 20.0, 22.0]}


def _cub_test(number: int, image: Record) -> Record:
    options = [SPECIES[(number * 11 + place * 7) % 200] for place in range(26)]
    question = (
        f"<image>\nWhat type of bird is depicted in this photograph?\n{LETTER_PROMPT}\n{lettered(options)}"
    )
    return {"image": image, "question": question, "answer": chr(ord("A") + number * 5 % 26)}


def _pixmo(number: int, image: Record) -> Record:
    sha256 = hashlib.sha256(image["bytes"]).hexdigest()
    return {
        "image_url": f"https://pictures.example/{number}/photo.jpg",
        "image_sha256": sha256,
        "count": number % 10,
        "points": {"x": [1.5] * (number % 10), "y": [2.5] * (number % 10)},
        "label": ("cars", "people", "white birds")[number % 3],
    }


def _pixmo_test(number: int, image: Record) -> Record:
    count, label = 2 + number % 9, ("cats", "boats")[number % 2]
    return {
        "image": image,
        "question": f"How many {label} are in this image?\n<image>",
        "answer": f"There are {count} {label} in this image.",
    }


def _path(number: int, image: Record) -> Record:
    asked, answer = (
        ("is the tissue inflamed?", ("yes", "no")[number // 2 % 2])
        if number % 2
        else (
            "what is present in the wall of the vessel?",
            ("fibrin", "a thin layer of calcium")[number // 2 % 2],
        )
    )
    return {"image": image, "question": asked, "answer": answer}


def _text(number: int, image: Record) -> Record:
    answers = ["nokia"] * 6 + ["Nokia", "toshiba", "nokia phone", "unanswerable"]
    return {
        "image_id": hashlib.md5(image["bytes"], usedforsecurity=False).hexdigest()[:16],
        "question_id": 34602 + number,
        "question": f"what is the BRAND of phone {number}?",
        "question_tokens": ["what", "is", "the", "brand", "of", "phone", str(number)],
        "image": image,
        "image_width": 24,
        "image_height": 32,
        "flickr_original_url": f"https://pictures.example/o/{number}.jpg",
        "flickr_300k_url": f"https://pictures.example/z/{number}.jpg",
        "answers": answers,
        "image_classes": ["Mobile phone"],
        "set_name": "val",
        "ocr_tokens": ["NOKIA"],
    }


def _clock(number: int, image: Record) -> Record:
    time = f"{1 + number % 12:02d}:{number * 7 % 60:02d}"
    return {
        "image": image,
        "question": "What time does the clock show in this image?\n<image>",
        "answer": time,
    }


def _countbench(number: int, image: Record) -> Record:
    count = 2 + number % 9
    return {
        "image": image,
        "text": f"A set of {count} cups on a table",
        "question": "How many cups are there in the image?",
        "number": count,
    }


def _ai2d(number: int, image: Record) -> Record:
    options = ["grass", "rabbit", "fox", "both B and C"]
    return {"question": "What eats the grass?", "options": options, "answer": str(number % 4), "image": image}


def _chart(number: int, image: Record) -> Record:
    return {
        "type": ("human_test", "augmented_test")[number % 2],
        "question": f"What is the value of bar {number}?",
        "answer": ("14", "Yes", "0.57", "2019")[number % 4],
        "image": image,
    }


def _doc(number: int, image: Record) -> Record:
    return {
        "questionId": str(49150 + number),
        "question": f"What is the date on page {number}?",
        "question_types": ["handwritten", "form"],
        "image": image,
        "docId": 14465 + number,
        "ucsf_document_id": "txpp0227",
        "ucsf_document_page_no": str(number),
        "answers": ["May 3, 1999", "3 May 1999"],
        "data_split": "val",
    }


def _info(number: int, image: Record) -> Record:
    return {
        "questionId": str(98313 + number),
        "question": f"How many people use channel {number}?",
        "answers": ["40%", "40 percent"],
        "answer_type": ["single span"],
        "image": image,
        "image_url": "https://pictures.example/infographic.png",
        "operation/reasoning": ["none"],
        "ocr": "{}",
        "data_split": "val",
    }


def _real(number: int, image: Record) -> Record:
    lettered_question = (
        "In which direction does the wheel face?\n\nA. Left\nB. Straight\nC. Right\n\nPlease answer directly with "
        "only the letter of the correct option and nothing else."
    )
    asked, answer = (
        (lettered_question, "B"),
        ("How many lights are red?\nPlease answer directly with a single word or number.", "14"),
        ("Is the road wet?\nPlease answer directly with a single word or number.", "Yes"),
        ("Which way does the slope go?\nPlease answer directly with a single word or number.", "Downhill"),
    )[number % 4]
    return {"image": image, "image_path": f"{number}.webp", "question": asked, "answer": answer}


def _science(number: int, image: Record) -> Record:
    return {
        "image": image,
        "question": "Which of these states is farthest north?",
        "choices": ["West Virginia", "Louisiana", "Arizona", "Oklahoma"][: 2 + number % 3],
        "answer": number % 2,
        "hint": ("", "The map shows the states.")[number % 2],
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "topic": "geography",
        "category": "Geography",
        "skill": "Read a map: cardinal directions",
        "lecture": "Maps have four cardinal directions.",
        "solution": "Look at the compass rose.",
    }


def _star(number: int, image: Record) -> Record:
    options = "A: On the book., B: Under the cat., C: Under the bed., D: Beside the door."
    return {
        "index": number,
        "question": f"Where is the suitcase?\nOptions: {options}",
        "image": image,
        "answer": "ABCD"[number % 4],
        "category": ("coarse perception", "math")[number % 2],
        "l2_category": ("image scene and topic", "geometry")[number % 2],
        "meta_info": {"source": "MMBench", "split": "val", "image_path": f"images/{number}.jpg"},
    }


def _seed(number: int, image: Record) -> Record:
    video = number % 5 == 3
    return {
        "answer": "ABCD"[number % 4],
        "choice_a": "One",
        "choice_b": "Two",
        "choice_c": "Three",
        "choice_d": "Four",
        "data_id": f"{number}_3454",
        "data_type": "video" if video else "image",
        "question": "How many towels are in the image?",
        "question_id": str(101669 + number),
        "question_type_id": 10 if video else 1 + number % 9,
        "image": [image] * (3 if video else 1),
        "segment": [0, 10] if video else [],
    }


def _ocr(number: int, image: Record) -> Record:
    return {
        "dataset": ("IIIT5K", "HME100k")[number % 2],
        "question": "what is written in the image?",
        "question_type": ("Regular Text Recognition", "Handwritten Mathematical Expression Recognition")[
            number % 2
        ],
        "answer": (["CENTRE"], ["x ^ { 2 } + 1"])[number % 2],
        "image": image,
    }


_BIRDS = ClassLabel(names=[f"{place:03d}.{name.replace(' ', '_')}" for place, name in enumerate(SPECIES, 1)])
_STUDY = Features({"image": Image(), "question": TEXT, "answer": TEXT})
_POINTS = {"x": List(Value("float32")), "y": List(Value("float32"))}
_PIXMO = Features({"image_url": TEXT, "image_sha256": TEXT, "count": WHOLE, "points": _POINTS, "label": TEXT})
_TEXT = Features(
    {
        "image_id": TEXT,
        "question_id": WHOLE,
        "question": TEXT,
        "question_tokens": List(TEXT),
        "image": Image(),
        "image_width": WHOLE,
        "image_height": WHOLE,
        "flickr_original_url": TEXT,
        "flickr_300k_url": TEXT,
        "answers": List(TEXT),
        "image_classes": List(TEXT),
        "set_name": TEXT,
        "ocr_tokens": List(TEXT),
    }
)
_DOC = Features(
    {
        "questionId": TEXT,
        "question": TEXT,
        "question_types": List(TEXT),
        "image": Image(),
        "docId": Value("int64"),
        "ucsf_document_id": TEXT,
        "ucsf_document_page_no": TEXT,
        "answers": List(TEXT),
        "data_split": TEXT,
    }
)
_INFO = Features(
    {
        "questionId": TEXT,
        "question": TEXT,
        "answers": List(TEXT),
        "answer_type": List(TEXT),
        "image": Image(),
        "image_url": TEXT,
        "operation/reasoning": List(TEXT),
        "ocr": TEXT,
        "data_split": TEXT,
    }
)
_SCIENCE = Features(
    {
        "image": Image(),
        "question": TEXT,
        "choices": List(TEXT),
        "answer": Value("int8"),
        "hint": TEXT,
        **dict.fromkeys(
            ("task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), TEXT
        ),
    }
)
_STAR = Features(
    {
        "index": Value("int64"),
        "question": TEXT,
        "image": Image(),
        "answer": TEXT,
        "category": TEXT,
        "l2_category": TEXT,
        "meta_info": {"source": TEXT, "split": TEXT, "image_path": TEXT},
    }
)
_SEED = Features(
    {
        **dict.fromkeys(
            ("answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_id", "data_type"), TEXT
        ),
        "question": TEXT,
        "question_id": TEXT,
        "question_type_id": Value("int16"),
        "image": List(Image()),
        "segment": List(Value("int64")),
    }
)

COPIES: dict[str, tuple[Copy, ...]] = {
    "bentrevett/caltech-ucsd-birds-200-2011": tuple(
        Copy(
            f"data/{split}-00000-of-00001.parquet",
            split,
            Features({"image": Image(), "label": _BIRDS, "bbox": List(Value("float32"))}),
            _cub_train,
        )
        for split in ("train", "test")
    ),
    "Jessemel/cub200-test": (Copy("data/train-00000-of-00001.parquet", "train", _STUDY, _cub_test),),
    "allenai/pixmo-count": tuple(
        Copy(f"data/{split}-00000-of-00001.parquet", split, _PIXMO, _pixmo)
        for split in ("validation", "train", "test")
    ),
    "Jessemel/pixmocount-test": (Copy("data/train-00000-of-00001.parquet", "train", _STUDY, _pixmo_test),),
    "flaviagiammarino/path-vqa": tuple(
        Copy(f"data/{split}-00000-of-00001.parquet", split, _STUDY, _path)
        for split in ("train", "validation", "test")
    ),
    "lmms-lab/textvqa": tuple(
        Copy(f"data/{split}-00000-of-00001.parquet", split, _TEXT, _text)
        for split in ("train", "validation", "test")
    ),
    "AvaXiao/clockreading-time": (Copy("data/train-00000-of-00001.parquet", "train", _STUDY, _clock),),
    "Jessemel/clockreading-coco": (Copy("data/train-00000-of-00001.parquet", "train", _STUDY, _clock),),
    "Jessemel/clockreading-openimg": (Copy("data/train-00000-of-00001.parquet", "train", _STUDY, _clock),),
    "vikhyatk/CountBenchQA": (
        Copy(
            "data/test-00000-of-00001.parquet",
            "test",
            Features({"image": Image(), "text": TEXT, "question": TEXT, "number": WHOLE}),
            _countbench,
        ),
    ),
    "lmms-lab/ai2d": (
        Copy(
            "data/test-00000-of-00001.parquet",
            "test",
            Features({"question": TEXT, "options": List(TEXT), "answer": TEXT, "image": Image()}),
            _ai2d,
        ),
    ),
    "lmms-lab/ChartQA": (
        Copy(
            "data/test-00000-of-00001.parquet",
            "test",
            Features({"type": TEXT, "question": TEXT, "answer": TEXT, "image": Image()}),
            _chart,
        ),
    ),
    "lmms-lab/DocVQA": (
        Copy("DocVQA/validation-00000-of-00006.parquet", "validation", _DOC, _doc, "DocVQA"),
        Copy(
            "InfographicVQA/validation-00000-of-00002.parquet", "validation", _INFO, _info, "InfographicVQA"
        ),
    ),
    "lmms-lab/RealWorldQA": (
        Copy(
            "data/test-00000-of-00002.parquet",
            "test",
            Features({"image": Image(), "image_path": TEXT, "question": TEXT, "answer": TEXT}),
            _real,
        ),
    ),
    "lmms-lab/ScienceQA": tuple(
        Copy(f"{config}/{split}-00000-of-00001.parquet", split, _SCIENCE, _science, config)
        for config in ("ScienceQA-FULL", "ScienceQA-IMG")
        for split in ("validation", "test")
    ),
    "Lin-Chen/MMStar": (Copy("mmstar.parquet", "val", _STAR, _star, "val"),),
    "lmms-lab/SEED-Bench": (Copy("data/test-00000-of-00028.parquet", "test", _SEED, _seed),),
    "echo840/OCRBench": (
        Copy(
            "data/test-00000-of-00001.parquet",
            "test",
            Features(
                {
                    "dataset": TEXT,
                    "question": TEXT,
                    "question_type": TEXT,
                    "answer": List(TEXT),
                    "image": Image(),
                }
            ),
            _ocr,
        ),
    ),
}
"""The data sets by id. Columns and types are those of their cards; of the study's own, those that its code reads."""


LEARNED = (
    "bentrevett/caltech-ucsd-birds-200-2011",
    "allenai/pixmo-count",
    "flaviagiammarino/path-vqa",
    "lmms-lab/textvqa",
)
"""Data sets whose split ``train`` targets learn."""


def write_fixtures(root: Path, rows: int = 8, learned: int | None = None) -> None:
    """Writes a copy of every data set of `lmmcl.tasks` below a folder, for ``data.root``.

    Every picture is another one, and every one of a split has the same file name, as those of the hub may. PixMo's
    pictures lie where ``lmmcl fetch`` puts them.

    Args:
        root: the folder.
        rows: of every split, from 1.
        learned: of every split that a target learns, from 1; None: as many.
    """
    disable_progress_bars()
    for dataset, copies in COPIES.items():
        folder = root / dataset
        for copy in copies:
            file = folder / copy.file
            file.parent.mkdir(parents=True, exist_ok=True)
            trains = dataset in LEARNED and copy.split == "train"
            made = list(_rows(dataset, copy, (learned or rows) if trains else rows))
            Dataset.from_list(made, features=copy.features).to_parquet(str(file))
        (folder / "README.md").write_text(_card(copies), encoding="utf-8")
    write_pictures_of_pixmo(root, max(rows, learned or rows))


def pictures_of_pixmo(rows: int = 8) -> Iterator[bytes]:
    """The pictures that PixMo's rows of all splits name."""
    dataset = "allenai/pixmo-count"
    for copy in COPIES[dataset]:
        for number in range(rows):
            yield picture(dataset, copy.config, copy.split, number)


def write_pictures_of_pixmo(root: Path, rows: int = 8) -> None:
    """Puts PixMo's pictures where they would be fetched to."""
    for data in pictures_of_pixmo(rows):
        path = picture_path(pictures_folder("allenai/pixmo-count", root), hashlib.sha256(data).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _rows(dataset: str, copy: Copy, rows: int) -> Iterator[Record]:
    for number in range(rows):
        data = picture(dataset, copy.config, copy.split, number)
        yield copy.row(number, {"bytes": data, "path": f"{number}.png"})


def _card(copies: tuple[Copy, ...]) -> str:
    """A card that names configurations and splits, as the hub's does."""
    lines = ["---", "configs:"]
    for config in dict.fromkeys(copy.config for copy in copies):
        lines += [f"- config_name: {config or 'default'}", "  data_files:"]
        for copy in copies:
            if copy.config == config:
                pattern = copy.file.replace("-00000-of-", "-*").split("-*")[0]
                star = copy.file if pattern == copy.file else f"{pattern}-*"
                lines += [f"  - split: {copy.split}", f"    path: {star}"]
    return "\n".join([*lines, "---", ""])
