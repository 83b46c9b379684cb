"""The JSON schema of a config: every YAML that ships fits it, and a mistake does not."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from lmmcl.cli.config_parser import config_parser
from lmmcl.cli.keys import keys_of
from lmmcl.cli.schema import DRAFT, documented, of_type, schema
from lmmcl.data.parse import parse_task
from lmmcl.errors import UserError
from tests.tiny_run import TinyRun, command

jsonschema = pytest.importorskip("jsonschema")
FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))


class Loader(yaml.SafeLoader):
    """YAML 1.2's numbers, as editors and our parser read them: 1e-5 is one, too."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$"), list("-+0123456789")
)
Loader.yaml_implicit_resolvers = {
    first: sorted(found, key=lambda pair: pair[0].endswith(":float"))
    for first, found in Loader.yaml_implicit_resolvers.items()
}


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_that_ships_fits(validator: Any, name: str) -> None:
    validator.validate(yaml.load((FOLDER / name).read_text(), Loader))


def test_the_config_that_a_run_keeps_fits(validator: Any, finished: TinyRun) -> None:
    validator.validate(yaml.load((finished.path / "config.yaml").read_text(), Loader))


@pytest.mark.parametrize(
    "text",
    [
        "model: {lrr: 3}",
        "modle: {lr: 3}",
        "model: {lr: fast}",
        "model: {schedule: linear}",
        "model: {betas: [0.9]}",
        "model: {recipe: {trian: sa_proj}}",
        "trainer: {max_epoch: 3}",
        "trainer: {precision: bf17}",
        "trainer: {callbacks: [LwFF]}",
        "trainer: {callbacks+: [{class_path: LwF, init_args: {weigth: 1}}]}",
        "trainer: {callbacks: [{class_path: lmmcl.callbacks.LwF, init_args: {weigth: 1}}]}",
        "trainer: {callbacks: [{class_path: LwF, init_arg: {weight: 1}}]}",
        "data: {tasks: [cuont]}",
        "data: {tasks: count}",
        "data: {tasks: [{task: count, epoch: 2}]}",
        "data: {tasks: [{path: rows.jsonl}]}",
        "data: {tasks: [{task: mine, path: rows.jsonl, scorer: leter}]}",
        "data: {on_too_long: ignore}",
        "seed: one",
    ],
)
def test_a_mistake_does_not_fit(validator: Any, text: str) -> None:
    assert not validator.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "model: {recipe: [sa_proj, {train: [llm.mlp.gate], layers: '12:', lr: {vision: 1.0e-6}}]}",
        "trainer: {callbacks: [LwF, {class_path: callbacks.mine.Mine, init_args: {alpha: 1}}, mine.Other]}",
        "trainer: {callbacks: LearningRateMonitor, logger: {class_path: lightning.pytorch.loggers.CSVLogger}}",
        "data: {tasks: [{task: mine, hub: owner/name, config: c, splits: {train: train, test: validation}}]}",
        "data: {tasks: [{task: time_clock, train: [a.jsonl, b.csv]}], scoring: lmms-eval, root: data}",
        "data: {held_out+: [{task: mine, path: {train: a.jsonl, test: b.jsonl}, scorer: my.scorers.fair}]}",
        "trainer: {strategy: {class_path: lmmcl.parallel.strategy.FSDP2Strategy}}",
    ],
)
def test_what_the_parser_takes_fits(validator: Any, text: str) -> None:
    validator.validate(yaml.safe_load(text))


def test_every_key_of_the_parser_has_a_place_and_ours_a_description() -> None:
    made = schema()
    for key in keys_of(config_parser()):
        group, _, name = key.name.rpartition(".")
        place = made["properties"][group]["properties"] if group else made["properties"]
        assert name in place
        assert place[name]["description"] or group == "trainer"
        assert (f"{name}+" in place) == key.appends
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        assert key.required or place[name]["default"] == default


def test_every_key_of_a_task_that_the_data_take_has_a_place() -> None:
    with pytest.raises(UserError) as refused:
        parse_task({"task": "mine", "no such key": 1})
    accepted = re.search(r"Keys are (.+)\.", str(refused.value))
    assert accepted
    mapping = next(part for part in schema()["$defs"]["task"]["anyOf"] if part.get("type") == "object")
    assert set(mapping["properties"]) == set(accepted[1].split(", "))
    silent = [name for name, entry in mapping["properties"].items() if not entry.get("description")]
    assert not silent


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (bool, {"type": "boolean"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (
            tuple[float, int],
            {
                "type": "array",
                "prefixItems": [{"type": "number"}, {"type": "integer"}],
                "minItems": 2,
                "items": False,
            },
        ),
        (int | Any, {}),
    ],
)
def test_the_schema_of_a_type(hint: Any, expected: dict[str, Any]) -> None:
    assert of_type(hint) == expected


def test_arguments_carry_type_default_and_docstring() -> None:
    def function(alpha: float = 0.5, name: str | None = None) -> None:
        """Does.

        Args:
            alpha: how ``much``.
            name: whose.
        """

    assert documented(function) == {
        "alpha": {"type": "number", "description": "how much.", "default": 0.5},
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "whose."},
    }


def test_the_command_prints_it() -> None:
    code, output, errors = command("schema")
    assert (code, errors) == (0, "")
    assert yaml.safe_load(output)["$schema"] == DRAFT
