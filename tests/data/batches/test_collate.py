"""Collation: labels by one rule on every family, prompts, fillers, and rows that do not suit."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lmmcl.data.batches.batch import IGNORED
from lmmcl.data.batches.collate import FILLER_ID, Collator, OnTooLong, answer_tokens
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from tests.data.processors import CHATML, CHATML_TOKENS, END_OF_TURN, FAMILIES, llava, row, say, simple

MULTI = row(
    "multi",
    say("user", "IMAGE", "Is it A or\nB"),
    say("assistant", "B"),
    say("user", "Look: ", "IMAGE", "and", "IMAGE", "is it A or\nB"),
    say("assistant", "B"),
    say("user", "B"),
    say("assistant", "é 中 both, A\nand B"),
)
ROWS = [
    simple("one"),
    simple("two", "What is it?\nSay it.", "Yes, two red birds."),
    MULTI,
    row("text", say("user", "hello"), say("assistant", "B")),
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, Collator]:
    return request.param, Collator(FAMILIES[request.param](), 2000)


@pytest.fixture(scope="module")
def collator() -> Collator:
    return Collator(llava(special=CHATML_TOKENS), 200)


def answers(of: Row) -> list[str]:
    return [message["content"][0]["text"] for message in of.messages if message["role"] == "assistant"]


def runs(labels: list[int]) -> list[tuple[int, int]]:
    """First and last-but-one position of every run of labels."""
    groups = itertools.groupby(range(len(labels)), lambda position: labels[position] != IGNORED)
    return [(span[0], span[-1] + 1) for learned, group in groups if learned and (span := list(group))]


def test_labels_decode_to_the_answers_and_their_ends_of_turn(family: tuple[str, Collator]) -> None:
    name, collator = family
    batch = collator.train(ROWS)
    assert batch.labels is not None
    for one, labels in zip(ROWS, batch.labels.tolist(), strict=True):
        decoded = [
            collator.processor.tokenizer.decode(labels[start:stop], clean_up_tokenization_spaces=False)
            for start, stop in runs(labels)
        ]
        ends = [END_OF_TURN[name]] * len(decoded)
        if name == "llava-vicuna":  # its template ends no turn; only the last gets an end of text
            ends[:-1] = [""] * (len(ends) - 1)
        assert [text.strip() for text in decoded] == [
            answer + end for answer, end in zip(answers(one), ends, strict=True)
        ]


def test_labels_are_the_input_ids_at_their_positions(family: tuple[str, Collator]) -> None:
    batch = family[1].train(ROWS)
    assert batch.labels is not None
    learned = batch.labels != IGNORED
    assert torch.equal(batch.labels[learned], batch.inputs["input_ids"][learned])
    assert not (learned & (batch.inputs["attention_mask"] == 0)).any()


def test_what_stands_before_an_answer_is_the_prompt_that_generation_reads(
    family: tuple[str, Collator],
) -> None:
    """An independent reference: the prompt alone, run through the processor with the same pictures."""
    collator = family[1]
    for one in ROWS:
        whole, prompt = collator.train([one]), collator.prompts([one])
        assert whole.labels is not None
        start = runs(whole.labels[0].tolist())[-1][0]
        assert whole.inputs["input_ids"][0, :start].tolist() == prompt.inputs["input_ids"][0].tolist()


def test_every_earlier_answer_stands_behind_its_own_prompt(family: tuple[str, Collator]) -> None:
    collator = family[1]
    batch = collator.train([MULTI])
    assert batch.labels is not None
    starts = [start for start, _ in runs(batch.labels[0].tolist())]
    for turn, start in zip((1, 3, 5), starts, strict=True):
        messages = MULTI.messages[: turn + 1]
        count = sum(part["type"] == "image" for message in messages for part in message["content"])
        prompt = collator.prompts([Row("p", messages, MULTI.images[:count])]).inputs["input_ids"][0].tolist()
        assert batch.inputs["input_ids"][0, :start].tolist() == prompt


def test_prompts_are_left_padded_and_unlabelled(family: tuple[str, Collator]) -> None:
    batch = family[1].prompts(ROWS)
    mask = batch.inputs["attention_mask"]
    assert batch.labels is None
    assert mask[:, -1].tolist() == [1] * len(ROWS)
    assert (mask.diff(dim=1) >= 0).all()
    assert batch.ids == tuple(one.id for one in ROWS)


def test_a_batch_is_the_same_whoever_is_beside_a_row(family: tuple[str, Collator]) -> None:
    collator = family[1]
    together = collator.train(ROWS)
    assert together.labels is not None
    for index, one in enumerate(ROWS[:3]):
        alone = collator.train([one])
        assert alone.labels is not None
        length = alone.labels.shape[1]
        kept = together.inputs["attention_mask"][index].bool()
        assert together.inputs["input_ids"][index][kept].tolist() == alone.inputs["input_ids"][0].tolist()
        assert together.labels[index][kept].tolist() == alone.labels[0].tolist()
        assert int(kept.sum()) == length


def test_a_remembered_conversation_gives_the_same_batch(collator: Collator) -> None:
    fresh = Collator(collator.processor, 200)
    first, second = fresh.train(ROWS), fresh.train(ROWS)
    assert first.labels is not None
    assert second.labels is not None
    assert torch.equal(first.labels, second.labels)
    assert all(torch.equal(first.inputs[key], second.inputs[key]) for key in first.inputs)


def test_a_batch_without_pictures_gets_an_unlabelled_one(family: tuple[str, Collator]) -> None:
    batch = family[1].train(ROWS[3:])
    assert batch.ids == ("text", FILLER_ID)
    assert "pixel_values" in batch.inputs
    assert batch.labels is not None
    assert (batch.labels[1] == IGNORED).all()
    assert answer_tokens(batch) == answer_tokens(family[1].train(ROWS)) - answer_tokens(
        family[1].train(ROWS[:3])
    )


def test_no_picture_is_added_when_nothing_asks_for_it(collator: Collator) -> None:
    batch = Collator(collator.processor, 200, always_image=False).train(ROWS[3:])
    assert batch.ids == ("text",)
    assert "pixel_values" not in batch.inputs


def test_a_filler_has_a_picture_and_no_labels(collator: Collator) -> None:
    batch = collator.filler(simple("one", extras={"weight": 2.0}))
    assert batch.ids == (FILLER_ID,)
    assert answer_tokens(batch) == 0
    assert len(batch) == batch.inputs["pixel_values"].shape[0] == 1
    assert batch.extras["weight"].tolist() == [2.0]


def test_prompts_of_no_rows_are_one_filler(collator: Collator) -> None:
    batch = collator.prompts([])
    assert batch.ids == (FILLER_ID,)
    assert "pixel_values" in batch.inputs


def test_extras_arrive_stacked_or_listed(collator: Collator) -> None:
    rows = [
        simple("a", extras={"weight": 1.5, "vector": torch.ones(2), "ragged": torch.ones(1), "rare": "x"}),
        simple("b", extras={"weight": 2, "vector": torch.zeros(2), "ragged": torch.ones(3)}),
    ]
    extras = collator.train(rows).extras
    assert extras["weight"].tolist() == [1.5, 2.0]
    assert extras["vector"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert [len(tensor) for tensor in extras["ragged"]] == [1, 3]
    assert extras["rare"] == ["x", None]


def test_a_row_too_long_is_an_error_with_its_id_and_length(collator: Collator) -> None:
    length = collator.train([simple("one")]).inputs["input_ids"].shape[1]
    assert Collator(collator.processor, length).train([simple("one")]).ids == ("one",)
    with pytest.raises(
        UserError, match=rf"row 'one'.*fit into {length - 1} tokens.*it has {length}.*on_too_long"
    ):
        Collator(collator.processor, length - 1).train([simple("one")])


def test_a_row_too_long_is_dropped_when_asked_and_never_cut(collator: Collator) -> None:
    rows = [simple("short"), simple("long", answer="red " * 300 + "end"), simple("other")]
    dropping = Collator(collator.processor, 200, "drop")
    assert dropping.train(rows).ids == ("short", "other")
    assert dropping.train(rows[1:2]).ids == (FILLER_ID,)


@pytest.mark.parametrize("on_too_long", ["drop", "error"])
def test_a_filler_may_be_longer_than_any_sample(collator: Collator, on_too_long: OnTooLong) -> None:
    text = row("t", say("user", "hi"), say("assistant", "a"))
    mask = collator.train([text]).mask()
    own, filler = mask.sum(1).tolist()
    assert own < filler
    batch = Collator(collator.processor, own, on_too_long).train([text])
    assert list(batch.ids) == ["t", FILLER_ID] and torch.equal(batch.mask(), mask)


def test_a_prompt_too_long_is_refused_even_where_training_rows_are_dropped(collator: Collator) -> None:
    with pytest.raises(UserError, match="row 'long'"):
        Collator(collator.processor, 200, "drop").prompts([simple("long", question="red " * 300)])


def test_a_broken_picture_is_named_with_its_row(collator: Collator, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG nothing")
    broken = Row("seven", simple("x").messages, (path,))
    with pytest.raises(UserError, match=r"row 'seven'.*broken\.png"):
        collator.train([simple("one"), broken])


def test_pictures_may_be_paths_and_functions(collator: Collator, tmp_path: Path) -> None:
    picture = Image.new("RGB", (24, 24), (200, 10, 60))
    picture.save(tmp_path / "a.png")
    messages = simple("x").messages
    kinds: list[Any] = [picture, tmp_path / "a.png", lambda: picture]
    pixels = collator.train([Row(str(i), messages, (kind,)) for i, kind in enumerate(kinds)]).inputs[
        "pixel_values"
    ]
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Row("r", [say("user", "IMAGE", "x"), say("assistant", "y")]), "row 'r'.*0 pictures and 1 places"),
        (row("r", say("user", "x"), say("assistant", "  ")), "row 'r'.*message 2 is an empty answer"),
        (row("r", say("user", "x")), "row 'r'.*last message must be the assistant's"),
        (row("r", say("user", "x"), say("assistant", "a<|im_end|>b")), "row 'r'.*no control token"),
        (
            row("r", say("user", "see <image>"), say("assistant", "a")),
            "row 'r'.*sign for a picture, got '<image>'",
        ),
    ],
)
def test_a_malformed_row_is_an_error_with_its_id(collator: Collator, wrong: Row, message: str) -> None:
    with pytest.raises(UserError, match=message):
        collator.train([simple("one"), wrong])


def test_the_sign_of_a_video_in_a_text_is_refused() -> None:
    processor = llava(special=CHATML_TOKENS)
    processor.video_token = "<video>"
    with pytest.raises(UserError, match=r"row 'r'.*own sign for a video, got '<video>'"):
        Collator(processor, None).train([row("r", say("user", "see <video>"), say("assistant", "a"))])


def test_a_template_that_leaves_out_what_is_asked_is_refused() -> None:
    loop = "for message in messages"
    processor = llava(CHATML.replace(loop, f"{loop} if message['role'] != 'system'"), special=CHATML_TOKENS)
    asked = row("r", say("system", "Be brief."), say("user", "what"), say("assistant", "a"))
    collator = Collator(processor, None)
    for make in (collator.train, collator.prompts):
        with pytest.raises(
            UserError, match=r"row 'r': .*leaves out or changes what the system says, 'Be brief\.'"
        ):
            make([asked])
    assert len(collator.train([row("r", say("user", "what"), say("assistant", "a"))])) == 2  # with a filler


def test_a_picture_sign_in_a_text_is_laid_to_its_own_row(collator: Collator) -> None:
    wrong = row("wrong", say("user", "see <image>"), say("assistant", "a"))
    with pytest.raises(UserError, match="row 'wrong'"):
        collator.train([simple("good"), wrong])


def test_a_tokenizer_without_padding_pads_with_its_end_of_text() -> None:
    processor = FAMILIES["llava-chatml"]()
    processor.tokenizer.pad_token = None
    batch = Collator(processor, None).train([simple("a"), simple("b", answer="one two three four")])
    mask = batch.inputs["attention_mask"].bool()
    assert not mask.all()
    assert set(batch.inputs["input_ids"][~mask].tolist()) == {processor.tokenizer.eos_token_id}


def test_a_processor_without_a_template_is_refused() -> None:
    processor = llava(special=CHATML_TOKENS)
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(UserError, match="chat template"):
        Collator(processor, 100)
