"""lmms-eval's tasks on the model in memory: what goes in, what comes back, and the real thing where it is installed."""

import importlib.util
import inspect
import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from lightning.pytorch import LightningModule, Trainer
from PIL import Image as Pictures
from PIL import ImageFile
from torch.distributed import distributed_c10d
from typing_extensions import override

from lmmcl import ContinualLMM
from lmmcl.callbacks import HeldOutEvaluation, LmmsEval
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import evaluate_task
from lmmcl.evaluation.lmms_reading import cut, document_score, examples_of, generation_settings, row_of
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import StageCallback
from lmmcl.position import Stage
from tests.tiny_run import command
from tests.torchrun import torchrun
from tests.toy import WORDS, toy_data, toy_module, toy_trainer

N = 11
INSTALLED = importlib.util.find_spec("lmms_eval") is not None
real = pytest.mark.skipif(not INSTALLED, reason="lmms-eval is not installed (pip install 'lmmcl[lmms-eval]')")


# What needs no lmms-eval


def test_messages_become_a_row_with_its_pictures_in_their_places() -> None:
    first, second = Pictures.new("RGB", (4, 5)), Pictures.new("L", (6, 7))
    row = row_of(
        "mmmu_val",
        3,
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image", "url": first},
                    {"type": "text", "text": "or"},
                    {"type": "image", "url": second},
                ],
            },
        ],
    )
    assert row.id == "mmmu_val/3" and list(row.images) == [first, second]
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant"]
    assert row.messages[0]["content"] == [{"type": "text", "text": "Be brief."}]
    assert [part["type"] for part in row.messages[1]["content"]] == ["image", "text", "image"]
    assert row.answer == "", "prompts leave the assistant's turn out"


@pytest.mark.parametrize("part", [{"type": "video", "url": "a.mp4"}, {"type": "audio", "url": {}}])
def test_video_and_sound_are_refused_by_name(part: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=f"videomme must show pictures and text only, document 0 has {part['type']}"
    ):
        row_of("videomme", 0, [{"role": "user", "content": [part]}])


def test_an_answer_ends_before_the_first_stop_text() -> None:
    assert cut("A cat.\n\nQuestion: B", ["\n\n", "ASSISTANT:"]) == "A cat."
    assert cut("A ASSISTANT: B\n\n", ["\n\n", "ASSISTANT:"]) == "A "
    assert cut("A", ["\n\n", ""]) == "A" and cut("", ["x"]) == ""


def test_generation_settings_are_the_length_and_the_stop_texts() -> None:
    assert generation_settings({"max_new_tokens": 16, "temperature": 0, "do_sample": False}) == (16, ())
    assert generation_settings({"until": ["\n\n"]}) == (1024, ("\n\n",))
    assert generation_settings({"until": "\n", "max_new_tokens": None}) == (1024, ("\n",))


def test_a_document_is_scored_by_number_by_its_record_or_by_its_aggregation_alone() -> None:
    assert document_score(0.25, None) == 0.25
    assert document_score(True, None) == 1.0 and document_score(np.bool_(True), None) == 1.0
    assert document_score({"score": 1, "category": "x"}, None) == 1.0
    right = {"parsed_pred": "A", "answer": "A"}
    assert (
        document_score(right, lambda found: float(np.mean([r["parsed_pred"] == r["answer"] for r in found])))
        == 1.0
    )
    assert document_score(right, None) is None and document_score(float("nan"), None) is None


def sample(number: int, **values: Any) -> dict[str, Any]:
    return {"doc_id": number, "target": ["a"], "filtered_resps": [f"said {number}"], **values}


def test_documents_become_examples_in_their_order_once_each() -> None:
    samples = [sample(1, acc=0.5, f1=0.25), sample(0, acc=1, f1=3.0, some=1), sample(1, acc=0.0, f1=0.0)]
    metric, result = examples_of("t", samples, {"some": None, "acc": None, "f1": None}, None, 1.0)
    assert metric == "acc", "the first that every document has"
    assert [(e.id, e.prediction, e.gold, e.score) for e in result.examples] == [
        ("0", "said 0", ["a"], 1.0),
        ("1", "said 1", ["a"], 0.5),
    ]
    assert [e.parts for e in result.examples] == [{"some": 1.0}, {"f1": 0.25}], "others, from 0 to 1"
    assert result.mean == 75.0
    assert examples_of("t", samples, {"acc": None, "f1": None}, "f1", 4.0)[1].mean == 50.0 * (0.75 + 0.0625)


@pytest.mark.parametrize(
    ("metric", "best", "said"),
    [
        ("rouge", 1.0, "must have a metric for every document, got rouge.*one of acc, points, text"),
        ("points", 1.0, "points of t must score each document from 0 to 1, got 150.*best"),
        ("text", 1.0, "text of t must score each document.*got 'yes'"),
    ],
)
def test_a_metric_that_scores_no_documents_is_an_error_with_the_way_out(
    metric: str, best: float, said: str
) -> None:
    samples = [sample(0, acc=1, points=150.0, text="yes")]
    with pytest.raises(UserError, match=said):
        examples_of("t", samples, {"acc": None, "points": None, "text": None}, metric, best)


@pytest.mark.parametrize(
    "options",
    [
        {"tasks": []},
        {"tasks": ["mme", "mme"]},
        {"tasks": ["mme"], "limit": 0},
        {"tasks": ["mme"], "batch_size": 0},
        {"tasks": [{"task": "mme", "scale": 2}]},
        {"tasks": [{"metric": "acc"}]},
        {"tasks": [{"task": "mme", "best": 0}]},
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"trainer.callbacks: LmmsEval\."):
        LmmsEval(**options)


@pytest.fixture
def without_lmms_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *_: None if name == "lmms_eval" else find(name)
    )


def test_without_the_extra_there_is_one_error_before_the_weights_are_loaded(
    tiny: Path, tmp_path: Path, without_lmms_eval: None
) -> None:
    module = toy_module(tiny, tmp_path / "run")
    with pytest.raises(UserError, match=r"not installed; install it with pip install 'lmmcl\[lmms-eval\]'"):
        toy_trainer(callbacks=[LmmsEval(["mmmu_val"])]).fit(module, toy_data())
    assert not hasattr(module, "model") and not (tmp_path / "run").exists()


def test_a_yaml_names_it_as_any_callback(tiny: Path, tmp_path: Path, without_lmms_eval: None) -> None:
    tasks = "[mmmu_val, {task: mme, metric: mme_perception_score, best: 200}]"
    init = f"{{tasks: {tasks}, limit: null, batch_size: 8}}"
    (tmp_path / "run.yaml").write_text(
        f"model: {{path: {tiny}}}\ndata: {{tasks: [count]}}\nrun: {tmp_path / 'run'}\n"
        f"trainer: {{callbacks: [{{class_path: LmmsEval, init_args: {init}}}]}}\n"
    )
    code, _, errors = command("fit", "--config", tmp_path / "run.yaml")
    assert "install it with pip install 'lmmcl[lmms-eval]'" in " ".join(errors.split())
    assert code != 0 and "Traceback" not in errors


def test_the_callbacks_are_imported_without_lmms_eval() -> None:
    code = "import sys, lmmcl.callbacks; sys.exit(any(name.split('.')[0] == 'lmms_eval' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The real thing


def picture(i: int) -> Pictures.Image:
    return Pictures.new("RGB", (40 + i, 48), (20 * i, 255 - 20 * i, 100))


def question(i: int) -> str:
    return " ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + i % 5))


def cells(run: Path) -> dict[str, dict[str, Any]]:
    stages = json.loads((run / "matrix.json").read_text())["stages"]
    return {f"{stage['name']} {stage['variant']}".strip(): stage["cells"] for stage in stages}


def predictions(path: Path) -> list[str]:
    return [json.loads(line)["prediction"] for line in path.read_text().splitlines()]


class Notices(StageCallback):
    """Keeps what the run tells its user."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        pl_module.sequence.report_notice = self._said.append


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tasks in lmms-eval's own YAML form over a local parquet file."""
    folder = tmp_path_factory.mktemp("tasks")
    os.environ["LMMS_EVAL_DATASETS_CACHE"] = str(folder / "cache")
    rows = [{"image": picture(i), "question": question(i), "answer": WORDS[i % len(WORDS)]} for i in range(N)]
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    (folder / "_tiny").write_text(
        textwrap.dedent(f"""
        dataset_path: parquet
        dataset_kwargs: {{data_files: {{test: {folder / "rows.parquet"}}}}}
        test_split: test
        doc_to_visual: !function utils.pictures
        doc_to_text: !function utils.question
        doc_to_target: answer
        process_results: !function utils.score
        output_type: generate_until
        generation_kwargs: {{max_new_tokens: 4, until: ["\\n\\n"]}}
        lmms_eval_specific_kwargs: {{default: {{post_prompt: "right"}}}}
        """)
    )
    metric = "{metric: share, aggregation: mean, higher_is_better: true}"
    guess = "{metric: record, aggregation: !function utils.total, higher_is_better: true}"
    filed = "{metric: filed, aggregation: !function utils.submission, higher_is_better: true}"
    for name, more in {
        "tiny_share": f"task: tiny_share\nmetric_list: [{metric}]",
        "tiny_record": f"task: tiny_record\nmetric_list: [{guess}, {metric}, {filed}]",
        "tiny_fails": f"task: tiny_fails\nprocess_results: !function utils.fails\nmetric_list: [{metric}]",
        "tiny_group": "group: tiny_group\ntask: [tiny_share, tiny_record]",
        "tiny_choice": f"task: tiny_choice\noutput_type: multiple_choice\ndoc_to_choice: [a, b]\n"
        f"doc_to_target: 0\ngeneration_kwargs: null\nmetric_list: [{metric}]",
    }.items():
        include = "" if "group:" in more else "include: _tiny\n"
        (folder / f"{name}.yaml").write_text(include + more + "\n")
    gone = f"task: tiny_gone\ndataset_kwargs: {{data_files: {{test: {folder / 'gone.parquet'}}}}}\n"
    (folder / "tiny_gone.yaml").write_text(f"include: _tiny\n{gone}metric_list: [{metric}]\n")
    (folder / "utils.py").write_text(
        textwrap.dedent("""
        import random

        def pictures(doc):
            return [doc["image"].convert("RGB")]

        def question(doc, lmms_eval_specific_kwargs):
            return doc["question"] + " " + lmms_eval_specific_kwargs["post_prompt"]

        def score(doc, results):
            said = len(set(doc["question"]) & set(results[0])) / 30
            return {"share": said, "record": {"said": said, "guess": random.random()}, "filed": {"score": said}}

        def total(records):
            print("a line that nobody wants")
            return sum(r["said"] for r in records) / len(records) ** 2

        def submission(records, args):
            open(f"{args.output_path}/answers.json", "w").close()

        def fails(doc, results):
            raise KeyError("the judge's key")
        """)
    )
    return folder


class Reference(StageCallback):
    """Asks the same questions as a task of our own, with the evaluator that all tasks share."""

    @override
    def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
        rows = []
        for i in range(N):
            user = [{"type": "image"}, {"type": "text", "text": f"{question(i)} right"}]
            answer: list[dict[str, str]] = []
            messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
            rows.append(Row(str(i), messages, [picture(i)], "gold"))
        task = replace(module.data.tasks[0], name="reference", max_new_tokens=4)
        with module.inference():
            return {"reference": evaluate_task(module, task, rows, module.data.collator.prompts)}


@real
@pytest.mark.slow
def test_a_task_of_lmms_eval_is_a_column_of_the_matrix_at_every_stage(
    tiny: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    lmms = LmmsEval(["tiny_group"], batch_size=4, include_path=str(tasks))
    module = toy_module(tiny, tmp_path)
    trainer = toy_trainer(callbacks=[HeldOutEvaluation(every_n_steps=2), lmms, Reference(), Notices(said)])
    state = random.getstate()
    trainer.fit(module, toy_data())
    rows = cells(tmp_path)
    assert list(rows) == ["00-base", "01-first step 2", "01-first", "02-second step 2", "02-second"]
    for stage, row in rows.items():
        assert set(row) == {"first", "second", "held", "tiny_share", "tiny_record", "reference"}
        folder = tmp_path / "predictions" / stage.replace(" ", "-")
        mine, ours, record = (
            predictions(folder / f"{task}.jsonl") for task in ("tiny_share", "reference", "tiny_record")
        )
        assert mine == ours == record, "template, padding and decoding are those of all tasks"
        shares = [len(set(question(i)) & set(text)) / 30 for i, text in enumerate(mine)]
        assert row["tiny_share"]["n"] == N
        assert row["tiny_share"]["score"] == pytest.approx(100 * sum(shares) / N)
        # A record that only its aggregation can read, and whose total is no mean.
        assert row["tiny_record"]["score"] == pytest.approx(row["tiny_share"]["score"])
        assert row["tiny_record"]["parts"]["share"] == pytest.approx(row["tiny_share"]["score"])
    assert len(set(map(str, (row["tiny_share"]["score"] for row in rows.values())))) > 1, "the model learned"
    assert [text[:31] for text in said if "lmms-eval" in text] == ["tiny_record: lmms-eval sums rec"]
    assert (tmp_path / "figures").exists() and "tiny_share" in (tmp_path / "summary.json").read_text()
    # What lmms-eval sets for the whole process is put back.
    assert random.getstate() == state and not ImageFile.LOAD_TRUNCATED_IMAGES
    assert distributed_c10d.default_pg_timeout == timedelta(minutes=30)
    assert "RANK" not in os.environ and "nobody wants" not in capsys.readouterr().out


@real
@pytest.mark.slow
def test_a_stop_loses_at_most_the_task_that_was_asked(
    tiny: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    measure = LmmsEval._measure

    def stopping(self: LmmsEval, trainer: Trainer, module: ContinualLMM, name: str) -> TaskResult:
        """Asks the run to stop while the second task is answered for the first time."""
        asked.append(name)
        if asked == ["tiny_share", "tiny_record"]:
            module.sequence.stop.requested = True
        return measure(self, trainer, module, name)

    def fit(run: Path, **options: Any) -> None:
        callback = LmmsEval(["tiny_share", "tiny_record"], limit=5, include_path=str(tasks))
        toy_trainer(callbacks=[callback]).fit(toy_module(tiny, run, **options), toy_data())

    fit(tmp_path / "whole")
    monkeypatch.setattr(LmmsEval, "_measure", stopping)
    with pytest.raises(SystemExit):
        fit(tmp_path / "stopped")
    fit(tmp_path / "stopped", resume=True)
    assert asked[:3] == ["tiny_share", "tiny_record", "tiny_record"]
    assert cells(tmp_path / "whole")["02-second"]["tiny_share"]["n"] == 5
    for name in ("matrix.json", "predictions/02-second/tiny_record.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ["tiny_shar"]}, "has no task 'tiny_shar'; did you mean tiny_share"),
        ({"tasks": ["tiny_choice"]}, "tiny_choice must be of output_type generate_until.*is multiple_choice"),
        ({"tasks": ["tiny_share", "tiny_group"]}, "has tiny_share, which the run measures already"),
        ({"tasks": ["tiny_gone"]}, r"could not load tiny_gone \(FileNotFoundError: .*gone.parquet"),
    ],
)
def test_a_task_that_cannot_be_measured_is_named_before_the_weights_are_loaded(
    tiny: Path, tasks: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    module = toy_module(tiny, tmp_path / "run")
    with pytest.raises(UserError, match=said):
        toy_trainer(callbacks=[LmmsEval(**options, include_path=str(tasks))]).fit(module, toy_data())
    assert not hasattr(module, "model") and not (tmp_path / "run").exists()


@real
@pytest.mark.slow
def test_a_scorer_of_lmms_eval_that_fails_is_named_with_its_reason(
    tiny: Path, tasks: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(callbacks=[LmmsEval(["tiny_fails"], limit=1, include_path=str(tasks))])
    with pytest.raises(UserError, match=r"could not score tiny_fails \(KeyError: \"the judge's key\"\)"):
        trainer.fit(toy_module(tiny, tmp_path), toy_data())


@real
@pytest.mark.slow
def test_two_processes_measure_what_one_does(tiny: Path, tasks: Path, tmp_path: Path) -> None:
    def validate(strategy: str, devices: int) -> None:
        callback = LmmsEval(["tiny_group"], batch_size=2, include_path=str(tasks))
        trainer = toy_trainer(callbacks=[callback], strategy=strategy, devices=devices)
        trainer.validate(toy_module(tiny, tmp_path / strategy), toy_data(), verbose=False)

    validate("auto", 1)
    code = f"""
        from pathlib import Path
        from lmmcl.callbacks import LmmsEval
        from tests.toy import toy_data, toy_module, toy_trainer
        tiny, tasks, tmp_path = Path({str(tiny)!r}), Path({str(tasks)!r}), Path({str(tmp_path)!r})
    """
    body = textwrap.dedent(inspect.getsource(validate))
    calls = 'validate("ddp", 2)\nvalidate("fsdp2", 2)\n'
    (tmp_path / "measure.py").write_text(f"{textwrap.dedent(code)}\n{body}\n{calls}")
    torchrun(2, tmp_path / "measure.py", timeout=280)
    for name in ("tiny_share.jsonl", "tiny_record.jsonl"):
        kept = [tmp_path / run / "predictions" / "00-base" / name for run in ("auto", "ddp", "fsdp2")]
        assert len({path.read_bytes() for path in kept}) == 1
