"""Prompts for whoever measures a model between its tasks, with the features of their pictures where they are kept."""

from __future__ import annotations

from lmmcl.evaluation.answering import MakePrompts
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.kept_features import KeptFeatures
from lmmcl.model import ContinualLMM


class KeptPrompts:
    """Makes prompts as ``data.cache_features`` asks; one of a callback, which may outlive a run and its model."""

    def __init__(self) -> None:
        self._features: KeptFeatures | None = None

    def of(self, module: ContinualLMM) -> MakePrompts:
        """What makes prompts for the model as it is now; on every process, before each measurement."""
        data = module.data
        if data.cache_features is None:
            return data.collator.prompts
        if self._features is None or not self._features.are_of(module.model):
            self._features = KeptFeatures(
                FeatureFolder(data.cache_features, int(data.cache_features_gb * 1e9)),
                module.model,
                module.anatomy,
                module.processor,
                {"precision": str(module.trainer.precision), "max_length": data.collator.max_length},
            )
        features, make = self._features, data.collator.prompts
        features.begin(keep=self._is_asked_again(module, features))
        return lambda rows: features.prompts(make, rows)

    def _is_asked_again(self, module: ContinualLMM, features: KeptFeatures) -> bool:
        """Whether a later measurement can find the picture's path as it is: this run's next one, or another run's."""
        position = module.sequence.position
        if position.stage == 0:
            return True
        now = position.stage - 1 if position.phase == "train" else position.stage
        return any(not features.on_path(module.trained_by(task)) for task in module.data.tasks[now : now + 1])
