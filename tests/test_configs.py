"""Every YAML that ships: it parses, its first line is its command, and it says only what differs from the defaults."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmmcl.cli.sequence_cli import SequenceCLI

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))


@pytest.fixture(autouse=True)
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceCLI, "instantiate_classes", lambda cli: None)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


@pytest.mark.parametrize("name", CONFIGS)
def test_a_yaml_parses(name: str) -> None:
    cli = SequenceCLI(["--config", str(FOLDER / name)], "lmmcl fit --config FILE")
    assert cli.config["model"]["path"]
    assert cli.config["data"]["tasks"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_line_of_a_yaml_is_its_command(name: str) -> None:
    first = (FOLDER / name).read_text().splitlines()[0]
    assert first == f"# lmmcl fit --config configs/{name}"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_yaml_says_only_what_differs_from_the_defaults(name: str) -> None:
    defaults = SequenceCLI(["--config", str(FOLDER / name)], "lmmcl fit --config FILE").parser.get_defaults()
    for key, value in leaves(yaml.safe_load((FOLDER / name).read_text())):
        assert key not in defaults or defaults[key] != value, f"{key}: {value} is the default"


def test_the_two_demos_differ_in_their_recipe_only() -> None:
    one, other = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("seq", "seq_full"))
    assert other["model"].pop("recipe") == "full"
    assert (one.pop("run"), other.pop("run")) == ("runs/seq", "runs/seq_full")
    assert one == other
