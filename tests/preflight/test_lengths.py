"""Lengths in tokens: of all rows, exact where it matters."""

from dataclasses import replace

from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.data.task import Part
from lmmcl.preflight.finding import Finding
from lmmcl.preflight.lengths import Lengths, check_lengths, measure
from lmmcl.preflight.scan import Rows, scan
from tests.data.processors import llava_next, row, say, simple
from tests.toy import toy_task


def rows(count: int = 12) -> list[Row]:
    """Rows whose questions and numbers of pictures differ."""
    return [
        row(f"r{i}", say("user", *["IMAGE"] * (1 + i % 3), "How many? " * (i + 1)), say("assistant", "3"))
        for i in range(count)
    ]


def lengths(
    some: list[Row], limit: int | None, part: Part = "train", max_new_tokens: int = 4
) -> list[Lengths]:
    task = replace(toy_task("mine", 0), max_new_tokens=max_new_tokens)
    processor = llava_next()
    return measure(scan([Rows(task, part, some)], processor, processes=0), processor, limit, 0)


def said(found: list[Lengths], limit: int | None, on_too_long: str = "error") -> list[Finding]:
    return list(check_lengths(found, limit, on_too_long))


def test_lengths_by_size_equal_those_of_the_processor() -> None:
    some = rows()
    collator = Collator(llava_next(), None, always_image=False)
    exact = [int(collator.train([one]).inputs["attention_mask"].sum()) for one in some]
    guessed = lengths(some, None)[0].guessed
    assert (
        guessed[0::3] == exact[0::3]
    )  # one picture of a size that was measured, or counted by the processor
    assert all(abs(guess - length) <= 2 for guess, length in zip(guessed, exact, strict=True))


def test_the_longest_sample_is_measured() -> None:
    some = rows()
    collator = Collator(llava_next(), None, always_image=False)
    exact = [int(collator.train([one]).inputs["attention_mask"].sum()) for one in some]
    assert lengths(some, None)[0].longest == max(exact)


def test_a_sample_that_does_not_fit_is_named_with_its_length() -> None:
    found = said(lengths(rows(), 80), 80)
    assert {one.level for one in found} == {"failure"}
    assert "must fit into 80 tokens" in found[0].text
    assert "model.max_length" in found[0].text


def test_dropping_long_training_rows_warns_and_long_prompts_still_fail() -> None:
    assert {one.level for one in said(lengths(rows(), 80), 80, "drop")} == {"warning", "ok"}
    assert "failure" in {one.level for one in said(lengths(rows(), 80, "test"), 80, "drop")}


def test_what_fits_is_one_line_with_the_longest() -> None:
    found = lengths(rows(3), 4000)
    assert [one.text for one in said(found, 4000)] == [
        f"nothing is cut: the longest sample (mine) has {found[0].longest} of 4000 tokens"
    ]


def test_a_gold_answer_longer_than_may_be_generated_is_a_warning() -> None:
    some = [simple("a", answer="3"), simple("b", answer="three circles and four squares")]
    found = said(lengths(some, None, "test", max_new_tokens=3), None)
    assert [one.level for one in found] == ["warning", "ok"]
    assert "1 gold answers" in found[0].text
    assert "row 'b'" in found[0].text
    assert [one.level for one in said(lengths(some, None, "train", max_new_tokens=3), None)] == ["ok"]
