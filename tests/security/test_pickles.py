"""No pickle is loaded from a file that may come from somebody else."""

import ast
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import lmmcl
from lmmcl.audit.adapter import fold
from lmmcl.data.hub.source import HubTable
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.merge.adapter_folder import open_adapter
from lmmcl.merge.model_folder import open_model
from tests.security.pickled import trap, trapped_weights
from tests.tiny_run import TinyRun

CALLS = {
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "joblib.load",
        "dill.load",
        "dill.loads",
        "marshal.loads",
    ),
    *(
        "pandas.read_pickle",
        "pd.read_pickle",
        "shelve.open",
        "yaml.unsafe_load",
        "yaml.full_load",
        "yaml.load_all",
    ),
    *("os.system", "os.popen", "eval", "exec", "tarfile.extractall", "shutil.unpack_archive"),
}
"""What runs, unpacks or builds whatever a file says."""
METHODS = ("extractall", "extract", "unsafe_load")
"""The same as methods of an object whose module does not stand before it."""
LAST = {"load", *METHODS, *(name.rpartition(".")[2] for name in CALLS)}
OPTIONS = ("weights_only", "Loader", "allow_pickle", "shell")


@pytest.fixture
def sprung(tmp_path: Path) -> Iterator[Path]:
    """The file that a loaded pickle would leave."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


def test_the_trap_springs_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    pickle.loads(trap(tmp_path / "one"))
    trapped_weights(tmp_path / "weights.bin", tmp_path / "two")
    torch.load(tmp_path / "weights.bin", weights_only=False)
    assert (tmp_path / "one").exists() and (tmp_path / "two").exists()


def _without_weights(tiny: Path, folder: Path) -> Path:
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_weights_of_a_model_in_a_pickle_are_refused(
    tiny: Path, tmp_path: Path, sprung: Path, name: str
) -> None:
    folder = _without_weights(tiny, tmp_path / "model")
    trapped_weights(folder / name, sprung)
    if "-of-" in name:
        index = {"metadata": {}, "weight_map": {"weight": name}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model\.path: could not load"):
        Checkpoint(str(folder)).model(False, 0)
    with pytest.raises(UserError, match="is a pickle and not read"):
        open_model(folder)


def test_weights_of_an_adapter_in_a_pickle_are_refused(tiny: Path, tmp_path: Path, sprung: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    trapped_weights(folder / "adapter_model.bin", sprung)
    with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
        open_adapter(open_model(tiny), folder)
    with pytest.raises(UserError, match=r"TUNED: .* a pickle"):
        fold(Checkpoint(str(tiny)).model(False, 0), str(folder))


def test_a_pickle_under_another_name_is_no_safetensors(tiny: Path, tmp_path: Path, sprung: Path) -> None:
    folder = _without_weights(tiny, tmp_path / "model")
    trapped_weights(folder / "model.safetensors", sprung)
    with pytest.raises(Exception, match=r"(?i)header|safetensors"):
        Checkpoint(str(folder)).model(False, 0)
    with pytest.raises(Exception, match=r"(?i)header|safetensors"):
        open_model(folder)


def test_a_columns_type_that_is_a_pickle_stays_one(tmp_path: Path, sprung: Path) -> None:
    """Arrow once loaded a column's type from its metadata (CVE-2023-47248)."""
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": trap(sprung)}
    schema = pa.schema([pa.field("question", pa.string(), metadata=kind), pa.field("answer", pa.string())])
    table = pa.table([[f"q{i}" for i in range(30)], ["a"] * 30], schema=schema)
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(table)
    pq.write_table(table, tmp_path / "rows.parquet")
    for name in ("rows.arrow", "rows.parquet"):
        assert FileSource(tmp_path / name).split("test")[0].answer == "a"


def test_a_picture_that_is_a_pickle_is_a_broken_picture(tmp_path: Path, sprung: Path) -> None:
    rows = {"image": [trap(sprung)] * 30, "question": [f"q{i}" for i in range(30)], "answer": ["a"] * 30}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    row = FileSource(tmp_path / "rows.parquet").split("test")[0]
    picture = row.images[0]
    assert callable(picture)
    with pytest.raises(UserError, match="cannot be read"):
        picture()


@pytest.mark.parametrize("name", ["train.pkl", "train.pickle", "set.py"])
def test_rows_of_a_copy_that_are_a_pickle_or_a_script_are_refused(
    tmp_path: Path, sprung: Path, name: str
) -> None:
    folder = tmp_path / "root" / "owner" / "set"
    folder.mkdir(parents=True)
    script = f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n".encode()
    (folder / name).write_bytes(script if name.endswith(".py") else trap(sprung))
    with pytest.raises(UserError, match=r"data\.root: the copy of owner/set cannot be read"):
        HubTable("owner/set", "train").load(tmp_path / "root")


def test_a_run_folder_holds_no_pickle(finished: TinyRun) -> None:
    files = [path for path in finished.path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    for path in files:
        head = path.read_bytes()[:2]
        assert head not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), path


def _wrong(call: ast.Call) -> bool:
    options = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg in OPTIONS}
    last = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if not options and last not in LAST:
        return False
    name = ast.unparse(call.func)
    if name == "torch.load":
        return options.get("weights_only") != "True"
    if name == "yaml.load":
        return "loader" not in options.get("Loader", "").lower()
    unsafe = options.get("allow_pickle") == "True" or options.get("shell") == "True"
    return unsafe or name in CALLS or last in METHODS


def test_no_file_of_the_package_calls_what_runs_a_file() -> None:
    near = re.compile(rf"\b(?:{'|'.join(LAST)})\(|{'|'.join(OPTIONS)}")
    texts = {file: file.read_text() for file in Path(lmmcl.__file__).parent.rglob("*.py")}
    trees = {file: ast.parse(text) for file, text in texts.items() if near.search(text)}
    calls = [
        (file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Call)
    ]
    assert [f"{file}: {ast.unparse(call)}" for file, call in calls if _wrong(call)] == []
    wrong = (
        "torch.load(f); yaml.load(f); np.load(f, allow_pickle=True); run(x, shell=True); archive.extractall()"
    )
    assert all(_wrong(node) for node in ast.walk(ast.parse(wrong)) if isinstance(node, ast.Call))


def test_safetensors_are_what_is_read(tiny: Path, tmp_path: Path) -> None:
    """A pickle beside them is passed over."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    trapped_weights(folder / "pytorch_model.bin", tmp_path / "sprung")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert Checkpoint(str(folder)).model(False, 0) is not None
    assert not (tmp_path / "sprung").exists()
