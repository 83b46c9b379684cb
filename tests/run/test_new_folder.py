"""A folder is made whole or not at all, and nothing else is touched."""

from pathlib import Path

import pytest

from lmmcl.errors import UserError
from lmmcl.run.new_folder import check_new_folder, new_folder


def fill(to: Path, *names: str) -> None:
    with new_folder(to) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("new")
            (folder / name).chmod(0o600)  # as safetensors leaves its files


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_folders_beside_it_stay_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("out.part", ".out-", ".out-x", "out.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    fill(tmp_path / "out", "a", "inner/b")
    assert contents(tmp_path / "out") == {"a": "new", "inner/b": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".out-",
        ".out-x",
        "out",
        "out.part",
        "out.tmp",
    ]
    assert (tmp_path / "out.part" / "mine").read_text() == "mine"


def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    fill(tmp_path / "out", "a")
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "a").touch()
    for name in (".", "a"):
        assert (tmp_path / "out" / name).stat().st_mode == (tmp_path / "usual" / name).stat().st_mode


def test_the_folder_one_stands_in_can_be_filled_and_stays_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    check_new_folder(Path("."), {}, False)
    fill(Path("."), "a", "inner/b")
    assert contents(tmp_path) == {"a": "new", "inner/b": "new"}
    assert tmp_path.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "inner"]


def test_a_link_to_a_folder_fills_that_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "to").symlink_to("there")
    fill(tmp_path / "to", "a")
    assert (tmp_path / "to").is_symlink()
    assert contents(tmp_path / "there") == {"a": "new"}


def test_weights_of_an_older_model_go_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("mine", "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).write_text("old")
    fill(tmp_path, "config.json", "model.safetensors")
    assert contents(tmp_path) == {"mine": "old", "config.json": "new", "model.safetensors": "new"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_not_finished_leaves_no_trace(
    there: bool, error: type[BaseException], tmp_path: Path
) -> None:
    to = tmp_path / "to"
    if there:
        to.mkdir()

    def fail(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise error

    with pytest.raises(error), new_folder(to) as folder:
        fail(folder)
    assert [path.name for path in tmp_path.iterdir()] == (["to"] if there else [])
    assert not there or not list(to.iterdir())


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"--to: could not write .*No space left"),
        new_folder(tmp_path / "to"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--to: could not write"):
        fill(tmp_path / "file" / "to", "a")


def test_what_holds_something_or_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, run, file = (tmp_path / name for name in ("read", "run", "file"))
    (run / "stages").mkdir(parents=True)
    read.mkdir()
    file.touch()
    (tmp_path / "link").symlink_to("read")
    monkeypatch.chdir(read)
    for to in (read, read / "inside", tmp_path, tmp_path / "link" / "inside", Path("."), Path("inside")):
        for overwrite in (None, False, True):
            with pytest.raises(UserError, match=r"--to: .* and BASE, which is read, hold one another"):
                check_new_folder(to, {"BASE": read}, overwrite)
    with pytest.raises(UserError, match="holds a run, which would be destroyed"):
        check_new_folder(run, {}, True)
    for overwrite, way_out in (
        (None, "choose another one.$"),
        (False, "choose another one, or add --overwrite.$"),
    ):
        with pytest.raises(UserError, match=way_out):
            check_new_folder(tmp_path, {}, overwrite)
    check_new_folder(tmp_path, {}, True)
    with pytest.raises(UserError, match=r"new or an empty folder; choose another one\.$"):
        check_new_folder(file, {}, True)
    check_new_folder(tmp_path / "new", {"BASE": read}, False)
