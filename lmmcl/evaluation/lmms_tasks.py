"""Loads tasks of lmms-eval. Import it through `lmmcl.evaluation.lmms_import` only."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.tasks import TaskManager

from lmmcl.errors import UserError
from lmmcl.evaluation.lmms_import import globals_kept


@dataclass(frozen=True)
class HarnessTask:
    """A task of lmms-eval that is loaded.

    Args:
        name: letters, digits, ``_``, ``-`` or ``.``.
        fingerprint: changes with lmms-eval's version, the task's files and its data.
        task: lmms-eval's object.
    """

    name: str
    fingerprint: str
    task: Any


def unsupported(task: Any, name: str) -> UserError:
    """The error for a task whose answers are not generated from chat messages in one round."""
    return UserError(
        f"LmmsEval.tasks: {name} must be of output_type generate_until over chat messages, it is "
        f"{getattr(task, 'OUTPUT_TYPE', None)} ({type(task).__name__}); leave it out."
    )


def load(names: Sequence[str], include_path: str | None) -> dict[str, list[HarnessTask]]:
    """Loads tasks and their data; a group or tag gives all its tasks.

    Args:
        names: of tasks, groups or tags of lmms-eval.
        include_path: folder with further tasks in lmms-eval's YAML form.

    Raises:
        UserError: there is no such task, it cannot be loaded, or its answers are not generated.
    """
    manager = TaskManager("ERROR", include_path=include_path)
    loaded: dict[str, list[HarnessTask]] = {}
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            raise UserError(
                f"LmmsEval.tasks: lmms-eval {version('lmms_eval')} has no task {name!r}"
                f"{'; did you mean ' + ', '.join(near) if near else ''}? Its own YAML files go into "
                "LmmsEval.include_path."
            )
        with globals_kept(), named(name, "load"):
            tree = manager.load_task_or_group([name], "chat")
        loaded[name] = []
        for leaf, task in _leaves(tree):
            if not isinstance(task, ConfigurableMessagesTask) or task.OUTPUT_TYPE != "generate_until":
                raise unsupported(task, leaf)
            task.set_config("repeats", 1)  # greedy answers repeat themselves
            paths = [manager.task_index.get(known, {}).get("yaml_path", -1) for known in (leaf, name)]
            folder = next((Path(path).parent for path in paths if path != -1), None)
            loaded[name].append(HarnessTask(leaf, _fingerprint(task, folder), task))
    return loaded


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, task in tree.items():
        if isinstance(task, Mapping):
            yield from _leaves(task)
        else:
            yield str(name), task


def _fingerprint(task: Any, folder: Path | None) -> str:
    found = hashlib.sha256(
        f"{version('lmms_eval')} {task.eval_docs._fingerprint} {len(task.eval_docs)}".encode()
    )
    for path in sorted(folder.iterdir()) if folder else []:
        if path.is_file() and path.suffix in (".py", ".yaml", ".yml", ""):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


@contextmanager
def named(task: str, verb: str, ours: Callable[[Exception], bool] = lambda error: False) -> Iterator[None]:
    """Names the task in whatever its code raises; a UserError and what is ``ours`` stay as they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if ours(error):
            raise
        last = getattr(error, "last_attempt", None)  # of tenacity, which hides the reason
        reason = error if last is None else last.exception()
        raise UserError(
            f"LmmsEval.tasks: lmms-eval could not {verb} {task} ({type(reason).__name__}: {reason}); try it with "
            "lmms-eval's own command line, or leave it out."
        ) from error
