"""Measures candidates, each once: answers are kept by what they depend on and found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmmcl.audit.candidate import Candidate
from lmmcl.audit.changes import Results
from lmmcl.audit.speaker import Speaker
from lmmcl.audit.two_models import TwoModels
from lmmcl.audit.voice import Voice
from lmmcl.data.questions import Questions
from lmmcl.data.task import Part, Task
from lmmcl.evaluation.evaluator import Kept, evaluate
from lmmcl.evaluation.predictions import PredictionStore, result_key

Progress = Callable[[str, str, int, int], None]
"""Candidate, task, rows done, all rows."""


class Measurer:
    """Measures BASE, TUNED and mixtures of them.

    Args:
        two: both models.
        speaker: answers with a candidate's weights.
        questions: what is asked.
        folder: answers are kept in ``predictions/test`` and ``predictions/dev`` under it.
        batch_size: prompts answered at once.
        precision: as of the speaker.
        progress: told how far a measurement is.
    """

    def __init__(
        self,
        two: TwoModels,
        speaker: Speaker,
        questions: Questions,
        folder: Path,
        batch_size: int,
        precision: str,
        progress: Progress = lambda candidate, task, done, total: None,
    ) -> None:
        self._two = two
        self._speaker = speaker
        self._questions = questions
        self._folder = folder
        self._batch_size = batch_size
        self._precision = precision
        self._progress = progress

    def is_base(self, candidate: Candidate) -> bool:
        """Whether a candidate is the base by construction: its weights, asked in its way."""
        voices = {name: voice.key for name, voice in self._two.voices.items()}
        back = candidate.by_group()
        whole = all(back.get(group) == 1.0 for group in self._two.moved)
        return candidate.kind == "base" or (whole and voices["base"] == voices["tuned"])

    def measure(self, candidate: Candidate, part: Part, tasks: list[Task]) -> Results:
        """Answers of a candidate to some tasks.

        The base is asked in its own way (processor, template, end tokens), all others in the tuned model's.
        """
        voice = self._two.voices["base" if candidate.kind == "base" else "tuned"]
        self._speaker.candidate, self._speaker.voice = candidate, voice
        weights = candidate.weights_key(self._two.base_key, self._two.tuned_key, self._two.moved)
        found = evaluate(
            self._speaker,
            tasks,
            {task.name: self._questions.rows(task, part) for task in tasks},
            voice.collator.prompts,
            batch_size=self._batch_size,
            kept=Kept(
                PredictionStore(self._folder / "predictions" / part),
                candidate.folder,
                {task.name: self._key(task, part, weights, voice) for task in tasks},
            ),
            progress=lambda task, done, total: self._progress(candidate.title, task, done, total),
        )
        results = {result.task: result for result in found}
        return {task.name: results[task.name] for task in tasks}

    def _key(self, task: Task, part: Part, weights: str, voice: Voice) -> str:
        settings = {
            "batch_size": self._batch_size,
            "device": self._speaker.device.type,
            "max_eval_samples": self._questions.max_eval_samples,
            "max_new_tokens": task.max_new_tokens,
            "part": part,
            "precision": self._precision,
            "scorer": task.scored_by,
            "scoring": self._questions.data.scoring,
            "voice": voice.key,
        }
        return result_key(weights, task.source.fingerprint(), settings)
