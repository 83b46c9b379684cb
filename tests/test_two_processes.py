"""DDP and FSDP2 on two gloo processes end with the weights of one process, and resume each other's checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from lmmcl.merge.threshold import kept_values
from tests.torchrun import torchrun
from tests.two_processes import (
    CHANGES,
    LONGEST_ANSWER,
    SHORT,
    copy_run,
    equal_values,
    fit,
    fit_layers,
    fit_whole,
)

STAGES = ("01-first", "02-second")
HELD = "predictions/01-first/held.jsonl"
RUNS = (
    *("ddp", "ddp-accumulated", "ddp-packed", "ddp-resumed"),
    *("fsdp2", "fsdp2-accumulated", "fsdp2-packed", "fsdp2-resumed"),
    *(f"{before}-to-{after}" for before, after in CHANGES),
)


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    fit(tiny, out / "one", "auto", 1)
    fit(tiny, out / "one-bf16", "auto", 1, longest=SHORT, precision="bf16-mixed")
    fit(tiny, out / "one-accumulated", "auto", 1, longest=SHORT, micro_batch_size=4)
    fit(tiny, out / "one-killed", "auto", 1, kill_at=5, longest=SHORT)
    fit_whole(tiny, out / "one-whole", "auto", 1)
    fit_layers(tiny, out / "one-layers", "auto", 1)
    torchrun(2, "-m", "tests.two_processes", tiny, out)
    for before in (before for before, after in CHANGES if after == "one"):
        copy_run(out / f"{before}-killed", out / f"{before}-to-one")
        fit(tiny, out / f"{before}-to-one", "auto", 1, resume=True, longest=SHORT)
    return out


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(run / "stages" / stage / "weights.safetensors")


def assert_same(run: Path, reference: Path, tolerance: float) -> None:
    for stage in STAGES:
        mine, other = weights(run, stage), weights(reference, stage)
        assert mine.keys() == other.keys()
        for name in mine:
            # Softmax does not see the bias of the keys: its gradient is rounding alone, which Adam blows up.
            if "vision_tower" in name and name.endswith("k_proj.bias"):
                continue
            torch.testing.assert_close(mine[name], other[name], rtol=0, atol=tolerance, msg=f"{stage} {name}")


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_end_with_the_weights_of_one(run: str, runs: Path) -> None:
    # Weights move by about 1e-2 a step here; Adam turns rounding of a tiny gradient into at most 1e-4 of it.
    assert_same(runs / run, runs / "one", 1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_resumed_run_has_the_bytes_of_one_that_was_never_stopped(strategy: str, runs: Path) -> None:
    for stage in STAGES:
        file = f"stages/{stage}/weights.safetensors"
        assert (runs / f"{strategy}-resumed" / file).read_bytes() == (runs / strategy / file).read_bytes()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_the_whole_model_with_rows_without_pictures_and_state_and_penalties_on_shards(
    strategy: str, runs: Path
) -> None:
    # Weights move by about 1e-3 a step here.
    assert_same(runs / f"{strategy}-whole", runs / "one-whole", 2e-5)
    for stage in STAGES:
        file = f"stages/{stage}/weights.safetensors"
        resumed, never = runs / f"{strategy}-whole-resumed" / file, runs / f"{strategy}-whole" / file
        assert resumed.read_bytes() == never.read_bytes()


def test_micro_batches_give_the_gradient_of_the_whole_batch(runs: Path) -> None:
    assert_same(runs / "one-accumulated", runs / "one", 1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_bf16_follows_one_process_in_bf16(strategy: str, runs: Path) -> None:
    for stage in STAGES:
        mine, other = weights(runs / f"{strategy}-bf16", stage), weights(runs / "one-bf16", stage)
        apart = sum(float((mine[n] - other[n]).norm()) for n in other)
        exact = weights(runs / "one", stage)
        rounding = sum(float((exact[n] - other[n]).norm()) for n in other)
        assert apart <= 2 * rounding, f"{stage}: {apart} apart, bf16 itself is {rounding} from fp32"


def test_a_layer_that_was_measured_while_nothing_in_it_trained_trains_in_the_next_task(
    tiny: Path, runs: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny)
    base = {name: parameter.detach() for name, parameter in model.named_parameters()}
    mine, other = (weights(runs / run, "02-second") for run in ("fsdp2-layers", "one-layers"))
    trained = [name for name in other if "layers.0.mlp" in name]
    assert mine.keys() == other.keys() and trained
    apart = sum(float((mine[name] - other[name]).norm()) for name in trained)
    moved = sum(float((other[name] - base[name]).norm()) for name in trained)
    assert apart < 0.25 * moved, f"{apart} apart, {moved} from the base model"


@pytest.mark.parametrize("run", ["ddp", "fsdp2"])
def test_every_sample_is_scored_once_and_scores_agree(run: str, runs: Path) -> None:
    mine, other = (json.loads((runs / name / "matrix.json").read_text()) for name in (run, "one"))
    assert mine == other
    assert {cell["n"] for stage in mine["stages"] for cell in stage["cells"].values()} == {7}


@pytest.mark.parametrize("run", ["ddp", "fsdp2"])
def test_answers_of_very_different_length_are_those_of_one_process(run: str, tiny: Path, runs: Path) -> None:
    answers = {
        name: [json.loads(line) for line in (runs / name / HELD).read_text().splitlines()]
        for name in (run, "one")
    }
    assert answers[run] == answers["one"] and len(answers[run]) == 7
    processor = AutoProcessor.from_pretrained(tiny)
    lengths = [len(processor.tokenizer(answer["prediction"])["input_ids"]) for answer in answers[run]]
    assert min(lengths) == 0 and max(lengths) >= LONGEST_ANSWER // 2, lengths


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_reads_weights_and_all_get_their_shards_to_the_byte(
    rank: int, tiny: Path, runs: Path
) -> None:
    seen = json.loads((runs / f"loading-{rank}.json").read_text())
    assert seen["opened"] == (1 if rank == 0 else 0)
    assert seen["meta"] == (rank == 1) and (seen["taken"] > 0) == (rank == 0)
    assert seen["end"] == GenerationConfig.from_pretrained(tiny).eos_token_id
    assert seen["checkpoint"] == []
    assert seen["error"].startswith("model.path: could not load ")


@pytest.mark.parametrize("rank", [0, 1])
def test_shards_over_two_dimensions_are_filled_to_the_byte(rank: int, runs: Path) -> None:
    seen = json.loads((runs / f"loading-{rank}.json").read_text())
    assert seen["cut"] == [] and seen["attribute"] and seen["tied"]


def test_features_of_rows_on_shards_give_the_same_bytes_whatever_is_kept(runs: Path) -> None:
    cold, warm = ((runs / run / "stages/01-first/weights.safetensors") for run in ("kept-cold", "kept-warm"))
    assert cold.read_bytes() == warm.read_bytes()
    seen = json.loads((runs / "kept.json").read_text())
    files = {file.name: file.stat().st_ino for file in (runs / "features").iterdir()}
    assert sorted(files) == seen["made"]
    assert {name: files[name] for name in seen["left"]} == seen["left"] != {}  # found, not written again


def test_anchors_add_no_bytes_to_a_checkpoint(runs: Path) -> None:
    last = max((runs / "fsdp2-to-one" / "last").iterdir())
    state = json.loads((last / "manifest.json").read_text())["state"]
    keys = {key.split("/")[1] for key in state["references"]}
    assert keys == {"LwF", "WiSEFT"}
    files = json.loads((last / "manifest.json").read_text())["files"]
    held = {key for entry in files.values() for key in entry["pieces"] if key.startswith("callback/")}
    assert held == {"callback/HeldOutEvaluation/canary_log_probabilities"}


def test_shards_keep_those_of_equal_values_that_one_process_keeps(runs: Path) -> None:
    for place, values in enumerate(equal_values()):
        both = torch.cat([torch.load(runs / f"kept-{place}-{rank}") for rank in range(2)])
        assert torch.equal(both, kept_values(values, 0.4, values))
        assert int(both.sum()) == round(0.4 * values.numel())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_penalty_that_a_process_without_rows_does_not_have_is_that_of_the_others(
    rank: int, runs: Path
) -> None:
    seen = json.loads((runs / f"penalties-{rank}.json").read_text())
    row = [[0.0, 1.0, 2.0]]
    of_both = torch.arange(12.0).view(4, 3)
    assert seen["means"] == {
        "loss": 1.0,
        "of one": 5.0,
        "of one, without a gradient": 5.0,
        "of both": float(of_both.square().sum()),
    }
    assert seen["gradients"] == {
        "of one": [[1 + 2 * x for x in row[0]]],
        "of one, without a gradient": [[2 * x for x in row[0]]],
        "of both": (2 * of_both).tolist(),
        "of none": None,
    }
