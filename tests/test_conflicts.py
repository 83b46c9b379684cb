"""Two mitigations that cannot work together are refused, with both entries and the reason, and nobody else is."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule
from typing_extensions import override

from lmmcl import Mitigation
from lmmcl.callbacks import EMA, GPM, LoRA, LwF, MoE, MoELoRA, OLoRA, WiSEFT
from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from tests.callbacks.laws import ROWS, together
from tests.toy import toy_data, toy_module, toy_trainer


class Shy(Mitigation):
    """Works beside none of the named ones."""

    def __init__(self, beside: str = "", before: str = "", after: str = "", name: str | None = None) -> None:
        super().__init__(name)
        self.beside, self.before, self.after = beside, before, after

    @override
    def conflict(self, other: Mitigation) -> str | None:
        return "it is shy." if other.name == self.beside else None

    @override
    def must_precede(self, other: Mitigation) -> str | None:
        return "it is hasty." if other.name == self.before else None

    @override
    def must_follow(self, other: Mitigation) -> str | None:
        return "it is slow." if other.name == self.after else None


def test_a_conflict_is_found_in_both_orders_and_with_others_between() -> None:
    for order in permutations([Shy("LwF"), WiSEFT(), LwF()]):
        with pytest.raises(
            UserError, match=r"^trainer.callbacks: (LwF and Shy|Shy and LwF) cannot work.*shy\.$"
        ):
            check_conflicts(order)


def test_entries_of_another_name_are_told_apart() -> None:
    with pytest.raises(UserError, match=r"Shy and LwF \(name: teacher\) cannot work together: it is shy\."):
        check_conflicts([Shy("teacher"), LwF(), LwF(name="teacher")])


def test_an_order_that_one_of_two_needs_is_asked_for() -> None:
    check_conflicts([Shy(before="LwF"), LwF()])
    check_conflicts([LwF(), Shy(after="LwF")])
    with pytest.raises(UserError, match=r"^trainer.callbacks: list Shy before LwF: it is hasty\.$"):
        check_conflicts([LwF(), Shy(before="LwF")])
    with pytest.raises(UserError, match=r"^trainer.callbacks: list LwF before Shy: it is slow\.$"):
        check_conflicts([Shy(after="LwF"), LwF()])


def test_an_average_must_not_replace_what_was_merged_before_it() -> None:
    check_conflicts([EMA(), WiSEFT()])
    check_conflicts([WiSEFT(), EMA(rate=1.0)])  # no average
    check_conflicts([WiSEFT(alpha=0.0), EMA()])  # no merge
    with pytest.raises(UserError, match=r"list EMA before WiSEFT: at the end of a task its average replaces"):
        check_conflicts([WiSEFT(), EMA()])


def test_of_two_averages_one_would_be_for_nothing() -> None:
    check_conflicts([EMA(), EMA(rate=1.0, name="none")])
    with pytest.raises(
        UserError, match=r"EMA and EMA \(name: slow\) cannot work together: at the end of a task each"
    ):
        check_conflicts([EMA(), EMA(rate=0.001, name="slow")])


@pytest.mark.parametrize("other", [LoRA(), LoRA(at_end="keep"), OLoRA(), MoELoRA(), MoE()])
def test_gpm_is_refused_beside_what_trains_other_weights_than_the_layers_own(other: Mitigation) -> None:
    for order in permutations([GPM(), other]):
        with pytest.raises(UserError, match=f"GPM protects .* and {other.name} trains others in"):
            check_conflicts(order)
    check_conflicts([GPM(samples=0), other])  # plain fine-tuning


def test_all_shipped_ones_work_beside_each_other_in_the_order_of_the_table() -> None:
    check_conflicts([row.make(row.at_work) for row in together(ROWS)])
    check_conflicts([row.make(row.at_zero) for row in reversed(ROWS) if row.at_zero is not None])


def test_a_fit_refuses_them_before_the_model_is_built(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy_module(tiny, tmp_path / "run")

    def never(self: LightningModule) -> Any:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(type(module), "configure_model", never)
    with pytest.raises(UserError, match="Shy and LwF cannot work together"):
        toy_trainer(callbacks=[Shy("LwF"), LwF()]).fit(module, toy_data())
    assert not (tmp_path / "run").exists()
