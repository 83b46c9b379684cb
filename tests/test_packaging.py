"""The package as others meet it: the link out of it, what a wheel holds, floors and pins."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): release for name, release in pairs}


def asked() -> list[Requirement]:
    """What the tests are run with: what pyproject.toml asks for, and its extras for those who develop."""
    lines = [*PROJECT["dependencies"], *(line for name in ("test", "dev") for line in EXTRAS[name])]
    return [asked for line in lines if (asked := Requirement(line)).name != "lmmcl"]


def installed_with(wanted: list[Requirement]) -> set[str]:
    """Names of everything that an installation of these brings here, they included."""
    found: set[str] = set()
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in wanted]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in requires(name) or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in (extras or {""})):
                waiting.append((canonicalize_name(inner.name), frozenset(inner.extras)))
    return found


def python(code: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of Python that sees ``where`` as its working directory."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=where, capture_output=True, text=True, check=False
    )


def test_the_folder_of_callbacks_is_a_relative_link_into_the_package() -> None:
    assert (ROOT / "callbacks").is_symlink()
    assert os.readlink(ROOT / "callbacks") == "lmmcl/callbacks"


def test_importing_the_link_names_the_right_package() -> None:
    told = python("import callbacks", ROOT)
    assert told.returncode == 1
    assert "ModuleNotFoundError" in told.stderr.splitlines()[-1]
    assert "lmmcl.callbacks" in told.stderr.splitlines()[-1]


def test_a_users_own_callbacks_folder_is_not_shadowed(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "mine.py").write_text("name = 'mine'\n")
    told = python("import lmmcl, callbacks.mine; print(callbacks.mine.name)", tmp_path)
    assert (told.returncode, told.stdout) == (0, "mine\n"), told.stderr


def test_every_package_that_is_imported_is_asked_for() -> None:
    files = (ROOT / "lmmcl").rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules = {name.split(".")[0] for name in plain | parts} - sys.stdlib_module_names - {"lmmcl"}
    lines = [*PROJECT["dependencies"], *EXTRAS["lmms-eval"], *EXTRAS["gpu"]]
    wanted = {canonicalize_name(Requirement(line).name) for line in lines}
    owners = packages_distributions()
    missing = {
        name for name in modules if not wanted & {canonicalize_name(o) for o in owners.get(name, [name])}
    }
    assert not missing


@pytest.mark.parametrize("wanted", asked(), ids=str)
def test_the_pinned_and_the_installed_release_are_not_below_the_floor(wanted: Requirement) -> None:
    assert wanted.specifier.contains(pins()[canonicalize_name(wanted.name)])
    assert wanted.specifier.contains(version(wanted.name))


def test_every_package_that_an_installation_brings_is_pinned() -> None:
    assert installed_with(asked()) <= set(pins())


def test_nothing_is_pinned_that_no_installation_brings() -> None:
    assert set(pins()) <= installed_with(asked())


def test_every_floor_is_given_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for wanted in map(Requirement, PROJECT["dependencies"]):
        assert re.search(rf'^    "{re.escape(wanted.name)}[^"]*>=[^"]+", *# \w+', text, re.MULTILINE), wanted


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copied = subprocess.run(
        ["git", "clone", "--quiet", "--no-local", str(ROOT), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode:
        pytest.skip(f"not a git checkout: {copied.stderr}")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        scripts = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "lmmcl = lmmcl.cli:main" in archive.read(scripts).decode()
    listed = subprocess.run(
        ["git", "ls-files", "lmmcl"], cwd=source, check=True, capture_output=True, text=True
    )
    assert held == set(listed.stdout.split())
    assert {"lmmcl/py.typed", "lmmcl/callbacks/lwf.py"} <= held


def test_the_package_says_its_version() -> None:
    assert importlib.util.find_spec("lmmcl.__main__") is not None
    told = subprocess.run(
        [sys.executable, "-m", "lmmcl", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["lmmcl", version("lmmcl")]
