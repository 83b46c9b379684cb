"""The bias of a class of tokens: what is averaged over which steps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lmmcl.callbacks import NumberTokenBias
from lmmcl.callbacks.number_token_bias import _Watch, class_bias
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import end_tokens
from lmmcl.evaluation.token_classes import token_class
from tests.callbacks.probed import probed


def test_a_class_has_its_sum_its_largest_probability_and_its_largest_logit() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    share = logits.softmax(-1)[0]
    found = class_bias(logits, torch.tensor([1, 3]))
    torch.testing.assert_close(found, torch.stack([share[1] + share[3], share[1], torch.tensor(1.0)])[None])


def test_steps_behind_a_sample_s_end_do_not_count() -> None:
    watch, ids, end = _Watch(torch.tensor([0]), torch.tensor([9])), torch.tensor([0]), 9
    steps = torch.randn(3, 2, 10, generator=torch.Generator().manual_seed(0))
    said = torch.tensor([[9, 3, end, 4], [9, 3, 5, 6]])  # a prompt of two tokens that holds the end, too
    for i, logits in enumerate(steps):
        assert watch(said[:, : i + 2], logits) is logits
    first, second = (class_bias(steps[:, sample], ids) for sample in range(2))
    torch.testing.assert_close(watch.means(), torch.stack([first[0], second.mean(0)]))


def test_it_reads_what_greedy_decoding_without_a_batch_or_a_cache_reads(tiny: Path) -> None:
    run = probed(tiny)
    module, probe = run.module, run.probes[NumberTokenBias]
    ids = torch.tensor(token_class(module.processor.tokenizer.get_vocab(), "numbers"))
    ends = end_tokens(module.model, module.processor.tokenizer)
    rows = module.data.eval_rows(module.data.held_out[0], "test", 5)
    means = []
    with module.inference():
        for row in rows:
            inputs, read = dict(module.data.collator.prompts([row]).inputs), []
            for _ in range(4):
                logits = module.model(**inputs, use_cache=False).logits[:, -1]
                read.append(class_bias(logits, ids)[0])
                said = logits.argmax(-1, keepdim=True)
                inputs["input_ids"] = torch.cat([inputs["input_ids"], said], dim=1)
                inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(said)], dim=1)
                if int(said) in ends:
                    break
            means.append(torch.stack(read).mean(0))
    assert probe.read(module) == pytest.approx(torch.stack(means).mean(0).tolist(), rel=1e-4)
    last = run.log("NumberTokenBias").at_stages[-1].values
    assert probe.read(module)[:2] == list(last.values())[::-1]


def test_it_reads_after_the_first_step_of_every_task_too(tiny: Path) -> None:
    for name in ("NumberTokenBias", "NumberTokenBias logits"):
        log = probed(tiny).log(name)
        assert [(row.at, row.step) for row in log.rows] == [
            *(("stage", 0), ("step", 1), ("stage", 3), ("step", 4), ("stage", 6))
        ]


def test_captions_of_the_picture_world_are_the_default_and_a_prompt_makes_captions_of_any_task(
    tiny: Path,
) -> None:
    module = probed(tiny).module
    rows = [row for _, row in NumberTokenBias(samples=3)._deal(module)]
    assert len(rows) == 3 and all("caption" in row.id or row.images for row in rows)
    tasks: list[str | dict[str, Any]] = ["held", {"task": "chart", "max_new_tokens": 3}]
    dealt = NumberTokenBias(tasks=tasks, prompt="Describe it.", samples=5)._deal(module)
    assert [task.name for task, _ in dealt] == ["held", "chart", "held", "chart", "held"]
    for _, row in dealt:
        content = row.messages[0]["content"]
        assert [part["type"] for part in content] == ["image", "text"] and content[1][
            "text"
        ] == "Describe it."
        module.data.collator.prompts([row])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 0}, "samples"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"tasks": []}, "at least one task"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"NumberTokenBias.*{said}"):
        NumberTokenBias(**options)


def test_its_two_logs_are_called_by_what_they_measure(tiny: Path) -> None:
    titles = [probed(tiny).log(name).title for name in ("NumberTokenBias", "NumberTokenBias logits")]
    assert titles == ["numbers in captions: probability", "numbers in captions: largest logit"]
