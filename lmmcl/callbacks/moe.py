"""MoE: in every decoder layer a frozen MLP and one tuned copy of it, and a router that weighs them for each token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from typing_extensions import override

from lmmcl.adapters.experts import Experts
from lmmcl.data.task import Task
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM


class MoE(Mitigation):
    """(1 − p) MLP(x) + p copy(x): the copy and the router p = softmax(R x + b) are trained, the MLP is kept.

    A baseline of arXiv 2510.08564 (recipe ``mlp``). The recipe says of which layers' MLPs there is a copy: what it
    chooses of an MLP trains in the copy, with the router, and the MLP itself stays frozen; with ``mlp`` that is the
    whole copy in every layer. What else it chooses trains as without MoE. Copy and router are one and the same for all
    tasks, each of which goes on where the one before it ended. R begins as N(0, 0.02) and b as 0, the copy as the MLP:
    so the first forward is the base model's, bit for bit.

    The study trains with both experts of a token and measures with the likelier one alone (``top_k_eval: 1``); by
    default the model that is measured is the one that was trained. Whatever runs in eval mode, such as LwF's teacher,
    takes ``top_k_eval``. The authors' code lets no gradient through the frozen MLP into the layers below, which here
    gets there. No plain weights can do this: a stage holds the copies and routers, `lmmcl validate` reads it with MoE
    in its config, and `lmmcl export` refuses it. It costs a copy of the MLPs, and their time twice.

    Args:
        top_k_eval: experts of a token where the model is measured, 1 or 2.
        name: of its state.

    Raises:
        UserError: the value is out of its range.
    """

    def __init__(self, top_k_eval: int = 2, name: str | None = None) -> None:
        super().__init__(name)
        self._experts = Experts(top_k_eval)
        self.top_k_eval = top_k_eval

    @override
    def conflict(self, other: Mitigation) -> str | None:
        if type(other).adapt is not Mitigation.adapt:
            return "both change the structure of the model; keep one of them."
        return None

    @override
    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        self._experts.adapt(module, model)

    @override
    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> Mapping[str, str]:
        return self._experts.trains(module, task, trained)

    @override
    def not_plain(self) -> str | None:
        return "MoE's routers choose between an MLP and its copy for every token; measure it with MoE in the config."
