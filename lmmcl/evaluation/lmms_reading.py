"""Between lmms-eval's words and ours: its messages as rows, its scored documents as examples. Needs no lmms-eval."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from lmmcl.data.row import ImageSource, Message, Row
from lmmcl.errors import UserError
from lmmcl.evaluation.result import Example, TaskResult

_NUMBER = (Real, np.bool_)


def row_of(task: str, document: int, messages: Sequence[Mapping[str, Any]]) -> Row:
    """The row that a document's messages make.

    Args:
        task: name of the task.
        document: its number in the task's split.
        messages: in lmms-eval's form: ``role`` and a ``content`` of ``{"type": "text", "text": ...}`` and
            ``{"type": "image", "url": a PIL picture}`` parts.

    Returns:
        A row whose last message, the assistant's, is empty: prompts leave it out.

    Raises:
        UserError: a part is neither text nor picture.
    """
    turns: list[Message] = []
    pictures: list[ImageSource] = []
    for message in messages:
        content = message["content"]
        parts: list[dict[str, Any]] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            shown: Any = part.get("url")
            if part["type"] == "text":
                parts.append({"type": "text", "text": part["text"]})
            elif part["type"] == "image" and isinstance(shown, Image.Image):
                parts.append({"type": "image"})
                pictures.append(shown)
            else:
                raise UserError(
                    f"LmmsEval.tasks: {task} must show pictures and text only, document {document} has "
                    f"{part['type']} ({type(shown).__name__}); leave the task out."
                )
        turns.append({"role": message["role"], "content": parts})
    turns.append({"role": "assistant", "content": [{"type": "text", "text": ""}]})
    return Row(f"{task}/{document}", turns, pictures)


def cut(answer: str, until: Sequence[str]) -> str:
    """The answer before the first of the texts that end it."""
    ends = [answer.find(text) for text in until if text]
    return answer[: min((end for end in ends if end >= 0), default=len(answer))]


def generation_settings(settings: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Longest answer in tokens (1024 if it does not say) and the texts that end one, of ``generation_kwargs``.

    The rest (sampling, beams) is left unread: decoding is greedy.
    """
    until = settings.get("until") or ()
    return int(settings.get("max_new_tokens") or 1024), (until,) if isinstance(until, str) else tuple(until)


def document_score(value: Any, aggregate: Callable[[list[Any]], Any] | None) -> float | None:
    """What a metric says of one document, as a number; None if nothing.

    A metric gives a number, or a record that only its aggregation can read. Such a record is read for its
    ``score``, as lmms-eval itself does where it compares documents, or aggregated alone.

    Args:
        value: of the metric, as ``process_results`` gives it.
        aggregate: of the metric.
    """
    if isinstance(value, Mapping) and isinstance(value.get("score"), _NUMBER):
        value = value["score"]
    elif not isinstance(value, _NUMBER) and aggregate is not None:
        value = aggregate([value])
    return float(value) if isinstance(value, _NUMBER) and math.isfinite(value) else None


def examples_of(
    task: str,
    samples: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Callable[[list[Any]], Any] | None],
    metric: str | None,
    best: float,
) -> tuple[str, TaskResult]:
    """A task's documents as scored examples.

    Args:
        task: its name.
        samples: what lmms-eval logs of each document, with ``doc_id``, ``target``, ``filtered_resps`` and a value
            for each metric. Of several filters the first counts.
        metrics: the task's metrics and how each is aggregated.
        metric: the one that is the score; None: the first that every document has.
        best: its value for a perfect document, which becomes a score of 1.

    Returns:
        The metric's name and the result, documents in their order. Other metrics are ``parts`` where they are numbers
        from 0 to 1.

    Raises:
        UserError: there is no such metric, or its values are not scores of documents.
    """
    documents: dict[int, Mapping[str, Any]] = {}
    for sample in samples:
        documents.setdefault(int(sample["doc_id"]), sample)
    ordered = [documents[number] for number in sorted(documents)]
    shared = [name for name in metrics if all(name in sample for sample in ordered)]
    chosen = metric if metric is not None else next(iter(shared), None)
    if chosen is None or chosen not in shared:
        raise UserError(
            f"LmmsEval.tasks: {task} must have a metric for every document, got {chosen or 'none'}; write "
            f"{{task: {task}, metric: ...}} with one of {', '.join(shared) or 'none (leave the task out)'}."
        )
    examples = []
    for sample in ordered:
        score = document_score(sample[chosen], metrics[chosen])
        if score is None or not 0 <= score <= best:
            raise UserError(
                f"LmmsEval.tasks: the metric {chosen} of {task} must score each document from 0 to {best:g}, got "
                f"{score if score is not None else sample[chosen]!r:.80} for document {sample['doc_id']}; write "
                f"{{task: {task}, metric: ..., best: ...}} with another metric ({', '.join(shared)}) or its best value."
            )
        others = {name: sample[name] for name in metrics if name != chosen and name in sample}
        examples.append(
            Example(
                id=str(sample["doc_id"]),
                prediction=_text(sample["filtered_resps"]),
                gold=json.loads(json.dumps(sample["target"], default=str)),
                score=score / best,
                parts={
                    name: float(value)
                    for name, value in sorted(others.items())
                    if isinstance(value, _NUMBER) and 0 <= float(value) <= 1
                },
            )
        )
    return chosen, TaskResult(task, tuple(examples))


def _text(answers: Sequence[Any]) -> str:
    """What the model said, after the task's filter; several answers of a document on lines of their own."""
    flat = [str(one) for answer in answers for one in (answer if isinstance(answer, list) else [answer])]
    return "\n".join(flat)
