"""Mitigations and probes, one file each."""

if __name__ == "callbacks":
    raise ModuleNotFoundError(
        "the folder `callbacks` is a link into the package: import lmmcl.callbacks instead", name="callbacks"
    )

from lmmcl.callbacks.breadcrumbs import Breadcrumbs
from lmmcl.callbacks.dare import DARE
from lmmcl.callbacks.data_mix import DataMix
from lmmcl.callbacks.der import DER, DERpp
from lmmcl.callbacks.ema import EMA
from lmmcl.callbacks.ewc import EWC
from lmmcl.callbacks.forgetting_budget import ForgettingBudget
from lmmcl.callbacks.gpm import GPM
from lmmcl.callbacks.held_out_evaluation import HeldOutEvaluation
from lmmcl.callbacks.l2_sp import L2SP
from lmmcl.callbacks.layer_contribution import LayerContribution
from lmmcl.callbacks.lmms_eval import LmmsEval
from lmmcl.callbacks.lora import LoRA
from lmmcl.callbacks.lwf import LwF
from lmmcl.callbacks.mas import MAS
from lmmcl.callbacks.model_tailor import ModelTailor
from lmmcl.callbacks.moe import MoE
from lmmcl.callbacks.moe_lora import MoELoRA
from lmmcl.callbacks.number_token_bias import NumberTokenBias
from lmmcl.callbacks.o_lora import OLoRA
from lmmcl.callbacks.output_shift import OutputShift
from lmmcl.callbacks.replay import Replay
from lmmcl.callbacks.sampled_answers import SampledAnswers
from lmmcl.callbacks.sfa import SFA
from lmmcl.callbacks.si import SI
from lmmcl.callbacks.task_arithmetic import TaskArithmetic
from lmmcl.callbacks.ties import TIES
from lmmcl.callbacks.weight_drift import WeightDrift
from lmmcl.callbacks.wise_ft import WiSEFT

__all__ = [
    "DARE",
    "DER",
    "EMA",
    "EWC",
    "GPM",
    "L2SP",
    "MAS",
    "SFA",
    "SI",
    "TIES",
    "Breadcrumbs",
    "DERpp",
    "DataMix",
    "ForgettingBudget",
    "HeldOutEvaluation",
    "LayerContribution",
    "LmmsEval",
    "LoRA",
    "LwF",
    "MoE",
    "MoELoRA",
    "ModelTailor",
    "NumberTokenBias",
    "OLoRA",
    "OutputShift",
    "Replay",
    "SampledAnswers",
    "TaskArithmetic",
    "WeightDrift",
    "WiSEFT",
]
