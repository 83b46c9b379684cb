"""Mitigations and probes, one file each."""

if __name__ == "callbacks":
    raise ModuleNotFoundError(
        "the folder `callbacks` is a link into the package: import lmmcl.callbacks instead", name="callbacks"
    )

from lmmcl.callbacks.ema import EMA
from lmmcl.callbacks.ewc import EWC
from lmmcl.callbacks.held_out_evaluation import HeldOutEvaluation
from lmmcl.callbacks.l2_sp import L2SP
from lmmcl.callbacks.lmms_eval import LmmsEval
from lmmcl.callbacks.lwf import LwF
from lmmcl.callbacks.mas import MAS
from lmmcl.callbacks.sfa import SFA
from lmmcl.callbacks.si import SI
from lmmcl.callbacks.wise_ft import WiSEFT

__all__ = ["EMA", "EWC", "L2SP", "MAS", "SFA", "SI", "HeldOutEvaluation", "LmmsEval", "LwF", "WiSEFT"]
