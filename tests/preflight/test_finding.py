"""Findings: how many of a kind are shown, and what stops a run."""

import ast
from pathlib import Path

import pytest

import lmmcl
from lmmcl.errors import UserError
from lmmcl.preflight.finding import CHECKS, Finding, failed, kind, ordered, refuse, some


def missing(number: int) -> Finding:
    return Finding(
        "failure",
        "rows",
        "mine",
        f"a/rows.jsonl, row {number}: there is no picture a/{number}.png; correct it.",
    )


def test_two_faults_of_one_kind_read_the_same_and_two_kinds_do_not() -> None:
    assert kind(missing(1).text) == kind(missing(22).text)
    assert kind("row 'a b': an answer must not be empty") == kind("row '7': an answer must not be empty")
    assert kind(missing(1).text) != kind("a/rows.jsonl, row 1: an answer must not be empty.")


def test_a_thousand_faults_of_one_kind_hide_no_other() -> None:
    other = Finding("failure", "rows", "mine", "a/rows.jsonl, row 5000: an answer must not be empty.")
    shown = list(some([*(missing(i) for i in range(1000)), other], most=3))
    assert shown[:3] == [missing(0), missing(1), missing(2)]
    assert shown[3].text == "... and 997 more like these"
    assert shown[4:] == [other]


def test_few_findings_are_all_shown_in_their_order() -> None:
    found = [missing(1), Finding("ok", "steps", "", "12 steps"), missing(2)]
    assert sorted(some(found), key=found.index) == found


def test_findings_are_shown_by_check_and_a_check_that_fails_is_not_fine_as_well() -> None:
    steps, rows = Finding("ok", "steps", "", "12 steps"), Finding("ok", "rows", "", "all make a prompt")
    assert ordered([steps, rows]) == [rows, steps]
    assert ordered([steps, rows, missing(1)]) == [missing(1), steps]


def test_only_a_failure_stops_a_run() -> None:
    fine = [Finding("ok", "steps", "", "12 steps"), Finding("warning", "memory", "", "tight")]
    assert not failed(fine)
    refuse(fine)
    assert failed([*fine, missing(1)])
    with pytest.raises(UserError, match=r"row 1: there is no picture a/1.png; correct it\.$"):
        refuse([*fine, missing(1)])
    with pytest.raises(UserError, match=r"\(2 more: lmmcl preflight shows all\.\)$"):
        refuse([missing(1), missing(2), missing(3)])


def named_checks(file: Path) -> set[str]:
    """The checks that a module names where it makes findings, or gives to what makes them."""
    tree = ast.parse(file.read_text())
    assigned = {
        ast.unparse(node.targets[0]): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        made = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and made in ("Finding", "self._tried"):
            check = node.args[made == "Finding"]
            check = assigned.get(ast.unparse(check), check)
            parts = [check.body, check.orelse] if isinstance(check, ast.IfExp) else [check]
            found |= {str(part.value) for part in parts if isinstance(part, ast.Constant)}
    return found


def test_every_check_that_a_finding_names_has_its_place_in_the_table() -> None:
    folder = Path(lmmcl.__file__).parent
    named = {name for file in folder.rglob("*.py") for name in named_checks(file)}
    assert named <= set(CHECKS), named - set(CHECKS)
    assert {"adapters", "memory", "rows", "trainer"} <= named
