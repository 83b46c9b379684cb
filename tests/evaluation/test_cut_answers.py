"""Answers that cannot be given in full are told, once."""

import logging
from types import SimpleNamespace

import pytest

from lmmcl.evaluation.cut_answers import tell_cut_answers
from tests.data.processors import CHATML_TOKENS, llava, row, say, simple


def test_gold_answers_longer_than_may_be_generated_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    processor = llava(special=CHATML_TOKENS)
    rows = [
        simple("short", "what", "red"),
        simple("long", "what", "red " * 20),
        row("asked", say("user", "what")),
    ]
    size = len(processor.tokenizer(("red " * 20).strip()).input_ids)
    with caplog.at_level(logging.WARNING):
        tell_cut_answers("fits", size, rows, processor)
        tell_cut_answers("cut", size, rows, SimpleNamespace())
        assert not caplog.messages
        for _ in range(2):
            tell_cut_answers("cut", size - 1, rows, processor)
    assert caplog.messages == [
        f"cut: 1 of 3 gold answers are longer than max_new_tokens: {size - 1} (row 'long'); such answers cannot be "
        f"given in full, raise it to {size}."
    ]
