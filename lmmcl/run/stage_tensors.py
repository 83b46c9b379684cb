"""Which stage of a run holds a tensor already, so that a checkpoint refers to it instead of holding it again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lmmcl.run.checkpoint import BrokenFileError
from lmmcl.run.run_folder import RunFolder
from lmmcl.weights import checksums

Reference = Mapping[str, str]
"""The ``stage``, the ``key`` of the tensor in it, and the ``holder``: the first key of the same tensor."""


class StageTensors:
    """What the stages of a run hold; a stage's lineage is read once, for it stays as it is.

    Args:
        run: the run folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self._lineages: dict[str, str] = {}

    def look(self, before: int) -> dict[str, str]:
        """The stages below a number, by name the SHA-256 of their lineage.

        Those from it on were written by a process that was killed, and are written again.
        """
        for stage in self.run.stages():
            if stage in self._lineages or int(stage.partition("-")[0]) >= before:
                continue
            try:
                lineage, digest = self.run.read_lineage(stage)
            except BrokenFileError:
                continue  # that it is lost was said when the run was resumed
            for name, value in lineage["checksums"].items():
                self._known.setdefault((name, value), {"stage": stage, "key": name})
            self._lineages[stage] = digest
        return dict(self._lineages)

    def references(self, kept: Mapping[str, Tensor]) -> dict[str, Reference]:
        """Callback tensors that a stage holds, found by checksum, by key; collective where they are sharded.

        Args:
            kept: by ``callback/<its name>/<its key>``, of which the last part is the tensor's name where it has one.
        """
        if not kept:
            return {}
        found = {
            key: self._known.get((key.rsplit("/", 1)[-1], value)) for key, value in checksums(kept).items()
        }
        holders: dict[int, str] = {}
        for key, tensor in kept.items():
            holders.setdefault(id(tensor), key)
        return {
            key: {**reference, "holder": holders[id(kept[key])]}
            for key, reference in found.items()
            if reference is not None
        }
