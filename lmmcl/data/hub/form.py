"""Any dataset of the hub as a YAML describes it: splits, columns, prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from lmmcl.data.columns import Columns, Prompt
from lmmcl.data.conversation import RowForm
from lmmcl.data.files.records import Place, Record
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.nearest import nearest
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.data.row import Row
from lmmcl.data.task import PARTS, Part
from lmmcl.errors import UserError


@dataclass(frozen=True)
class HubForm:
    """Makes rows of the records of any dataset, by its columns.

    Args:
        form: how a record becomes a row.
        tables: the table of each part, for errors and names of rows.
    """

    form: RowForm
    tables: Mapping[str, HubTable]

    def __call__(self, record: Record, number: int, part: Part) -> Row:
        """The row of a record.

        Raises:
            RowError: it makes none, or lacks a column.
        """
        table = self.tables.get(part) or self.tables.get("train") or self.tables["test"]
        place = Place(str(table), number, PictureRoots.nowhere(), f"{table.split}-{number}")
        return self.form.row({key: value for key, value in record.items() if value is not None}, place)


def hub_source(
    dataset: Any,
    held_out: bool,
    splits: Any = None,
    config: str | None = None,
    revision: str | None = None,
    columns: Any = None,
    prompt: str | None = None,
    split: Any = None,
) -> HubSource:
    """The source that a YAML's ``hub`` and the keys beside it describe.

    Args:
        dataset: its id, ``owner/name``.
        held_out: the rows are only measured; there need be no train split.
        splits: the dataset's split for ``train``, ``test`` and, if it has one, ``dev``.
        config: the configuration; None: the default one.
        revision: branch, tag or commit; None: the newest.
        columns: see `Columns`.
        prompt: see `Prompt`.
        split: dev's share of the table that it is cut from, ``{dev: 0.1}``.

    Raises:
        UserError: a value is of a wrong form, or a split is missing.
    """
    if not isinstance(dataset, str) or dataset.count("/") != 1:
        raise UserError(f"hub: must be an id such as owner/name, got {dataset!r}; correct it.")
    needed = ("test",) if held_out else ("train", "test")
    if not isinstance(splits, Mapping) or not set(needed) <= set(splits):
        raise UserError(
            f"splits: must name the dataset's split for {' and '.join(needed)}, got {splits!r}; write for example "
            "splits: {train: train, test: validation}."
        )
    for part in splits:
        if part not in PARTS:
            near = nearest(str(part), PARTS)
            raise UserError(f"splits: keys must be among {', '.join(PARTS)}, got {part!r}; {near}correct it.")
    share = {"dev": 0.1} if split is None else split
    if not isinstance(share, Mapping) or set(share) != {"dev"} or not isinstance(share["dev"], int | float):
        raise UserError(
            f"split: with hub data it may only hold dev's share, got {split!r}; write {{dev: 0.1}}."
        )
    names = Columns(columns or {})
    form = RowForm(names, None if prompt is None else Prompt(prompt))
    tables = {part: HubTable(dataset, str(name), config, revision) for part, name in splits.items()}
    return HubSource(
        cast(Any, tables),
        HubForm(form, tables),
        dev_share=share["dev"],
        identity=form.identity(),
        columns=names,
    )
