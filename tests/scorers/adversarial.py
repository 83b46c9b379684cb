"""Predictions made to mislead a scorer, and rows of every task to score them on."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

LETTERS = list("ABCDEFGHKSabcdksıſKİÀⒷВβБ")
MARKS = list(".,;:!?'\"()[]{}<>/\\|-_=+*&%$#@^~`’“”…–—−·。，：（）")
SPACES = [
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\x1c", "\x00",
]  # fmt: skip
_DIGITS = """
0 1 2 3 5 7 10 12 35 59 60 007 1,000 3.5 3.05 -3 +4 1/2 2-3 5% 50% %5 1e5 1E-3 1_000 nan NaN inf -Infinity 1e400 0x1F
² ½ Ⅳ ٣ ٣:٠٥ ३ １２ １２：３４ 𝟛 3:05 03:05 12:00 0:59 23:59 3:5 25:61 3：05 1:2:3 ** %% ... ?! 's \\boxed{
"""
DIGITS = _DIGITS.split()
_WORDS = """
none zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty twenty-one dozen hundred phones bones Nine NONE a an the A The I yes no Yes NO not there are
is It's it's dont don't cant oclock o'clock couldnt've yall'll red Red car answer option foo Straße ǆ ﬁn naïve 答案是 选
정답은 답: 答えは <think> </think> <image>
"""
WORDS = _WORDS.split()
_PHRASES = """
The answer is {}|the answer is {}.|Answer: {}|The correct answer is ({}).|My answer is: {}|The best option is {}|
I choose {}|i pick {}|Option {}|({})|{}.|{})|{}:|[{}]|**{}**|It's {}|It is {}|{} because|A or {}|not {}|about {}|
There are {} birds.|{} {}|{} is the answer|The answer is B. The best answer is {}|答案是{}|정답은 {}|time is {}|
Let me see: A. no B. yes. {}|{} o'clock|{}!| {} |"{}"|{}.foo|{}. foo|{}s|x{}|{}%|${}|\\boxed{{}}|THE ANSWER IS {}|
<think>A</think>{}|a {}|ASSISTANT: {}
"""
PHRASES = _PHRASES.replace("|\n", "|").strip("\n").split("|")
PHRASES += ["{}\n{}", "\t{}\n", "{}\x00", "\x00{}", "{}\n\nASSISTANT: A"]
ALONE = [
    "", " ", "\n", "None", ".", "...", "%", "'", "\x00", "\ud800", "." * 40, "a. " * 40, "nan%", "inf%", "--5", "5 .",
    "5 %", "B\x00", "b\x00.", "İ", "ß", "İ.", "A.B", "\u3000B. x", "B .", "⁵", "'''", "a" * 3000, "9" * 5000,
    "1" * 4301 + ":1",
]  # fmt: skip
_GOLD_TEXTS = """
Yes|no|STOP|red car|the Coca-Cola|don't|3|0|12.5|1,000|50%|5 %|two|A b C|-3|nan|inf|Straße|ＡＢＣ１|x^2 + 1|
\\frac { a } { b }|it's 5|U.S.A.|July 4, 1999|a
"""
GOLD_TEXTS = _GOLD_TEXTS.replace("|\n", "|").strip("\n").split("|")


@dataclass(frozen=True)
class Case:
    """A prediction with its row: ours (``gold``, ``meta``) and, where lmms-eval has the task, lmms-eval's (``doc``)."""

    prediction: str
    gold: Any
    meta: dict[str, Any]
    doc: dict[str, Any] = field(default_factory=dict)


def atom(random: random.Random) -> str:
    """A letter, number, word, mark or space that some reader trips over."""
    return random.choice(random.choice((LETTERS, DIGITS, WORDS, MARKS, SPACES)))


def mutated(random: random.Random, text: str) -> str:
    """The text with another case, or with a few characters deleted, doubled or put in."""
    text = random.choice((str, str.lower, str.upper, str.title, str.swapcase))(text)
    for _ in range(random.randrange(3)):
        place = random.randrange(len(text) + 1)
        text = text[:place] + random.choice(("", atom(random))) + text[place + random.randrange(2) :]
    return text


def prediction(random: random.Random, answers: list[str]) -> str:
    """An answer of some form: a right or wrong one dressed up, a hopeless one, or a heap of atoms."""
    kind = random.random()
    if kind < 0.05:
        return random.choice(ALONE)
    if kind < 0.1:
        return "".join(
            chr(random.choice((random.randrange(32, 0x250), random.randrange(0x3100)))) for _ in range(8)
        )
    if kind < 0.35:
        return "".join(atom(random) + random.choice(("", " ")) for _ in range(random.randrange(1, 9)))

    def answer() -> str:
        text = random.choice(answers) if random.random() < 0.7 else atom(random)
        return mutated(random, text) if random.random() < 0.5 else text

    if kind < 0.6:
        return answer()
    phrases = random.choices(PHRASES, k=1 if kind < 0.8 else random.randrange(2, 4))
    return random.choice((" ", "\n", ". ", "")).join(phrase.replace("{}", answer()) for phrase in phrases)


def near(random: random.Random, number: float) -> str:
    """A number about 5 % off, on either side of what is allowed."""
    off = number * random.choice((1.05, 0.95, 1.0500000000000001, 1.049, 0.951, 1.051, 0.949, -1, 0.01, 100))
    return random.choice(
        (str(off), f"{off:.2f}", f"{off}%", f"{off:e}", f" {off} %", f"{off:.0f}", f"+{off}", f"${off}")
    )


def _letters(random: random.Random) -> Case:
    gold = random.choice("ABCD")
    options = random.sample(GOLD_TEXTS, 4)
    index = ascii_uppercase.index(gold)
    doc: dict[str, Any] = {
        "question": "Which?",
        "options": options,
        "choices": options,
        "hint": "",
        "category": "math",
    }
    doc |= {"choice_" + letter: text for letter, text in zip("abcd", options, strict=True)}
    doc |= {
        "answer": gold,
        "index": index,
        "l2_category": "geometry",
        "data_type": "image",
        "question_id": "1",
    }
    return Case("", gold, {"options": options, "category": "math"}, doc)


def _ai2d(random: random.Random) -> Case:
    case = _letters(random)
    return Case("", case.gold, case.meta, case.doc | {"answer": str(case.doc["index"])})


def _scienceqa(random: random.Random) -> Case:
    case = _letters(random)
    return Case("", case.gold, case.meta, case.doc | {"answer": case.doc["index"]})


def _realworldqa(random: random.Random) -> Case:
    gold = random.choice(("A", "B", "C", "b", " D ", "Yes", "No", "0", "12", "Downhill", "E", "u-turn."))
    return Case("", gold, {}, {"question": "Which?", "answer": gold})


def _chartqa(random: random.Random) -> Case:
    numbers = ["0", "5", "5%", "0.05", "-5", "1000", "50.0", "nan", "inf", "1e-320", "0.0", "2019", "１２"]
    gold = random.choice(numbers + GOLD_TEXTS)
    category = random.choice(("human", "augmented"))
    doc = {"question": "How many?", "answer": gold, "type": f"{category}_test"}
    return Case("", gold, {"category": category}, doc)


def _documents(random: random.Random) -> Case:
    gold = [mutated(random, text) for text in random.sample(GOLD_TEXTS, random.randrange(1, 4))]
    return Case("", gold, {}, {"question": "What?", "answers": gold, "questionId": "1"})


def _text_vqa(random: random.Random) -> Case:
    pool = random.sample(GOLD_TEXTS + WORDS, 3)
    gold = [random.choice((text, mutated(random, text))) for text in random.choices(pool, k=10)]
    return Case("", gold, {}, {"question": "what?", "answers": gold, "question_id": 1})


def _ocrbench(random: random.Random) -> Case:
    gold = [mutated(random, text) for text in random.sample(GOLD_TEXTS, random.randrange(1, 4))]
    meta = {"dataset": random.choice(("HME100k", "IIIT5K")), "category": "Regular Text Recognition"}
    doc = {"question": "What?", "answer": gold, "dataset": meta["dataset"], "question_type": meta["category"]}
    return Case("", gold, meta, doc)


def _count(random: random.Random) -> Case:
    return Case("", random.choice((*range(21), 35, "There are 3 dogs.", "twelve", "two thousand")), {})


def _countbench(random: random.Random) -> Case:
    return Case("", random.randrange(21), {})


def _clock(random: random.Random) -> Case:
    return Case("", random.choice(("3:05", "03:05", "12:00", "0:59", "11:1", "10:10", "١:٣٠")), {})


def _path_vqa(random: random.Random) -> Case:
    question = random.choice(
        ("Is it red?", " DOES it?", "what is this?", "Am I?", "island?", "Can the", "is", "do it")
    )
    gold = random.choice(
        ("yes", "no", "Yes", "the wall of the heart", "red car", "in the canals of Hering", "3")
    )
    return Case("", gold, {"question": question})


ROWS: dict[str, Callable[[random.Random], Case]] = {
    "ai2d": _ai2d,
    "chartqa": _chartqa,
    "coco_clock": _clock,
    "countbench": _countbench,
    "cub200": _letters,
    "docvqa": _documents,
    "infovqa": _documents,
    "mmstar": _letters,
    "ocrbench": _ocrbench,
    "openimg_clock": _clock,
    "path_vqa": _path_vqa,
    "pixmo_count": _count,
    "realworldqa": _realworldqa,
    "scienceqa": _scienceqa,
    "seedbench": _letters,
    "text_vqa": _text_vqa,
    "time_clock": _clock,
}


def cases(task: str, number: int, seed: int = 0) -> Iterator[Case]:
    """The same cases for the same seed."""
    source = random.Random(f"{task} {seed}")
    for _ in range(number):
        row = ROWS[task](source)
        gold = row.gold if isinstance(row.gold, list) else [row.gold]
        answers = [str(answer) for answer in gold]
        if "options" in row.meta:
            answers = [*answers * 6, *"ABCD", *row.meta["options"]]
        numbers = [float(found) for answer in answers for found in re.findall(r"\d+(?:\.\d+)?", answer)]
        said = near(source, numbers[0]) if numbers and source.random() < 0.1 else prediction(source, answers)
        yield Case(said, row.gold, row.meta, row.doc)
