"""``lmmcl validate``: measures a stage of a run, or any model, again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from lmmcl.cli.quiet import quiet
from lmmcl.errors import UserError

FOLDER = "validate"
USAGE = "lmmcl validate (--run RUN [--stage K] | --config FILE) [--KEY VALUE ...] [--debug]"


def run(arguments: Sequence[str]) -> int:
    """Measures and prints a table; the answers go to ``validate/`` in the run folder.

    ``--run RUN [--stage K]`` measures a stage of a run with the run's own config, ``--config`` the model that a YAML
    names; every key can be given beside them.

    Returns:
        exit code: 3 if a critical row flipped since the run's base model, see `lmmcl.cli.critical`.
    """
    quiet()
    words, stage = _take_stage(list(arguments))
    given = _value(words, "--run")
    again = given is not None and "--config" not in words and "-c" not in words
    if again:
        given = str(Path(str(given)).expanduser())
        config = Path(given) / "config.yaml"
        if not config.exists():
            raise UserError(
                f"--run: {given} holds no run that lmmcl fit wrote; give its folder, or a YAML by --config."
            )
        words = ["--config", str(config), *words]
    elif stage is not None:
        raise UserError("--stage needs the run it belongs to: lmmcl validate --run RUN --stage K.")
    return _measure(words, Path(str(given)) if again else None, stage)


def _measure(words: Sequence[str], run: Path | None, stage: int | None) -> int:
    from lmmcl.cli.critical import critical_exit_of_results
    from lmmcl.cli.sequence_cli import SequenceCLI
    from lmmcl.evaluation.predictions import PredictionStore
    from lmmcl.sequence.stage_weights import StageWeights

    cli = SequenceCLI(words, USAGE)
    name = "00-base"
    if run is not None:
        weights = StageWeights(run, stage)
        name = weights.stage
        cli.trainer.callbacks.append(weights)  # type: ignore[attr-defined]  # untyped in Lightning
    folder = Path(cli.config["run"]) / FOLDER / name
    if cli.trainer.is_global_zero and folder.exists():
        shutil.rmtree(folder)  # to measure again is the point: kept answers would be taken as they are
    cli.model.hparams["run"] = str(folder)
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    if not cli.trainer.is_global_zero:
        return 0
    store = PredictionStore(folder / "predictions")
    tasks = [task.name for task in (*cli.datamodule.tasks, *cli.datamodule.held_out)]
    return critical_exit_of_results({task: store.read(name, task) for task in tasks}, Path(cli.config["run"]))


def _take_stage(words: list[str]) -> tuple[list[str], int | None]:
    text = _value(words, "--stage")
    if text is None:
        if "--stage" in words:
            raise UserError("--stage needs a number behind it.")
        return words, None
    if not text.isdecimal():
        raise UserError(f"--stage must be the number of a stage, from 0, got {text!r}.")
    place = next(i for i, word in enumerate(words) if word.partition("=")[0] == "--stage")
    return words[:place] + words[place + (1 if "=" in words[place] else 2) :], int(text)


def _value(words: Sequence[str], option: str) -> str | None:
    """The value of ``--option value`` or ``--option=value``."""
    for word, following in zip_longest(words, words[1:]):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else following
    return None
