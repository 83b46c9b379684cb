"""The world's tasks: five targets, eight held-out abilities, captioning, and the mixture that teaches them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.row_view import MadeRows
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.scorers import Scorer, clock, exact_match, integer, letter
from lmmcl.world import (
    attributes,
    chart,
    count,
    diagram,
    document,
    infographic,
    mixed,
    scene,
    science,
    species,
    tissue,
)
from lmmcl.world import clock as clocks
from lmmcl.world import word as words
from lmmcl.world.picture import Picture
from lmmcl.world.stream import Stream
from lmmcl.world.turns import Turn, caption_turn, open_turn

Draw = Callable[[Stream], Picture]
Ask = Callable[[Stream, Picture], Turn]
SPLITS = ("train", "dev", "test")
SHARES: dict[str, int] = {
    "attributes": 28,
    "scene": 8,
    "chart": 14,
    "diagram": 12,
    "document": 14,
    "infographic": 16,
    "science": 8,
}
"""Parts in a hundred of the families of pictures in the general mixture."""


def _open(stream: Stream, picture: Picture) -> Turn:
    return open_turn(stream, stream.pick(picture.questions))


GENERAL_ROWS = 1_000_000
"""Rows of the general mixture's training part: what the weights of the mini model were made from."""

LATE_SHARES: dict[str, int] = {
    "attributes": 10,
    "scene": 7,
    "chart": 7,
    "diagram": 7,
    "document": 9,
    "infographic": 55,
    "science": 5,
}
"""The same for ``posters``, the mixture of the second half of the mini model's training: what came late."""
LATE_ROWS = 240_000


@dataclass(frozen=True)
class Ability:
    """One task of the world: how its pictures are drawn, asked about and scored."""

    draw: Draw
    ask: Ask
    scorer: Scorer
    max_new_tokens: int = 8


TARGETS = ("species", "count", "tissue", "word", "clock")
HELD_OUT = ("diagram", "chart", "document", "infographic", "scene", "science", "mixed", "attributes")
ABILITIES: dict[str, Ability] = {
    "species": Ability(species.draw, _open, letter),
    "count": Ability(count.draw, _open, integer),
    "tissue": Ability(tissue.draw, _open, exact_match),
    "word": Ability(words.draw, _open, exact_match),
    "clock": Ability(clocks.draw, _open, clock),
    "diagram": Ability(diagram.draw, _open, exact_match),
    "chart": Ability(chart.draw, _open, exact_match),
    "document": Ability(document.draw, _open, exact_match),
    "infographic": Ability(infographic.draw, _open, exact_match),
    "scene": Ability(scene.draw, _open, exact_match),
    "science": Ability(science.draw, _open, exact_match),
    "mixed": Ability(mixed.draw, _open, exact_match),
    "attributes": Ability(attributes.draw, _open, exact_match),
    "caption": Ability(mixed.draw, caption_turn, exact_match, 24),
}


class WorldRows(MadeRows):
    """The rows of one split, drawn when they are asked for.

    Row i depends on (seed, task, split, i) alone. Its picture is drawn again until one falls into the split, which
    is a function of the picture itself, so that no two splits of any two seeds share a picture.

    Args:
        name: the task, part of the rows' ids and of their randomness.
        draw: draws a picture.
        ask: draws the question about a picture.
        split: ``train``, ``dev`` or ``test``.
        size: number of rows.
        seed: of the draws.
    """

    def __init__(
        self,
        name: str,
        draw: Draw,
        ask: Ask,
        split: str,
        size: int,
        seed: int,
    ) -> None:
        self._name, self._draw, self._ask = name, draw, ask
        self._split, self._size, self._seed = split, size, seed

    @override
    def __len__(self) -> int:
        return self._size

    @override
    def make(self, index: int) -> Row:
        stream = Stream(self._seed, self._name, self._split, index)
        picture = self._draw(stream)
        while picture.split != self._split:
            picture = self._draw(stream)
        return _row(f"{self._name}-{self._split}-{index}", picture, self._ask(stream, picture))


def _row(name: str, picture: Picture, turn: Turn) -> Row:
    asked = [{"type": "image"}, {"type": "text", "text": turn.question}]
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": turn.answer}]},
    ]
    return Row(name, messages, (picture.image,), turn.gold, turn.meta)


@dataclass(frozen=True)
class WorldSource:
    """Where the rows of a task of the world come from.

    Args:
        name: the task.
        seed: of all its draws.
        train: rows of the training split.
        dev: rows of the split that choices may look at.
        test: rows of the split that is reported.
        shares: for ``general`` only: parts of each family of pictures.
        captions: for ``general`` only: of a hundred pictures, how many are to be described instead of asked about.
    """

    name: str
    seed: int = 0
    train: int = 3840
    dev: int = 400
    test: int = 400
    shares: Mapping[str, int] | None = None
    captions: int = 25

    def __post_init__(self) -> None:
        if self.name not in (*ABILITIES, "general"):
            known = ", ".join((*ABILITIES, "general"))
            raise UserError(f"data.tasks: the picture world has no task {self.name!r}; it has {known}.")
        unknown = set(self.shares or ()) - set(SHARES)
        if unknown:
            raise UserError(
                f"data.tasks: shares names {sorted(unknown)}, families that the picture world does not draw; "
                f"it draws {', '.join(SHARES)}."
            )

    def split(self, name: str) -> Sequence[Row]:
        """The rows of ``train``, ``dev`` or ``test``."""
        if name not in SPLITS:
            raise UserError(f"data.tasks: {self.name} has the splits train, dev and test, not {name!r}.")
        size: int = getattr(self, name)
        if size < 1:
            raise UserError(
                f"data.tasks: {self.name}: the split {name} is empty; give {name} at least 1 row."
            )
        if self.name == "general":
            shares = dict(SHARES if self.shares is None else self.shares)
            return WorldRows(
                self.name,
                _mixture(shares),
                _asked(self.captions),
                name,
                size,
                self.seed,
            )
        ability = ABILITIES[self.name]
        return WorldRows(
            self.name,
            ability.draw,
            ability.ask,
            name,
            size,
            self.seed,
        )

    def fingerprint(self) -> str:
        """A hash of all that determines the rows, and of the first pictures and questions themselves."""
        mark = sha256(repr(self).encode())
        for name in SPLITS:
            if getattr(self, name):
                row = self.split(name)[0]
                mark.update(repr(row.messages).encode())
        return mark.hexdigest()


def _mixture(shares: Mapping[str, int]) -> Draw:
    names, weights = list(shares), list(shares.values())
    return lambda stream: mixed.FAMILIES[names[stream.weighted(weights)]](stream)


def _asked(captions: int) -> Ask:
    return lambda stream, picture: (caption_turn if stream.chance(captions) else _open)(stream, picture)


def world_task(name: str, **options: object) -> Task:
    """Makes a task of the world; the options are those of `WorldSource`."""
    if name == "general":
        options = {"train": GENERAL_ROWS, **options}
    source = WorldSource(name, **options)  # type: ignore[arg-type]  # checked by the dataclass's own signature
    if name == "general":
        return Task(name=name, source=source, scorer=exact_match, max_new_tokens=24)
    ability = ABILITIES[name]
    return Task(name=name, source=source, scorer=ability.scorer, max_new_tokens=ability.max_new_tokens)


TASKS: dict[str, Task] = {
    **{name: world_task(name) for name in (*TARGETS, *HELD_OUT, "caption", "general")},
    "posters": replace(world_task("general", train=LATE_ROWS, shares=LATE_SHARES), name="posters"),
}
"""Every task of the world with its default sizes and seed 0."""
