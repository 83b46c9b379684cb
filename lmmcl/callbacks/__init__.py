"""Mitigations and probes, one file each."""

if __name__ == "callbacks":
    raise ModuleNotFoundError(
        "the folder `callbacks` is a link into the package: import lmmcl.callbacks instead", name="callbacks"
    )

from lmmcl.callbacks.held_out_evaluation import HeldOutEvaluation
from lmmcl.callbacks.lwf import LwF
from lmmcl.callbacks.wise_ft import WiSEFT

__all__ = ["HeldOutEvaluation", "LwF", "WiSEFT"]
