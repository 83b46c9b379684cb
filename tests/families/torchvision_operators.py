"""Lets torchvision be imported beside a CPU-only torch; loaded as a pytest plugin before anything imports it.

Some indexes have no CPU build of torchvision. Image processors need only its transforms, which are pure Python,
but its import looks for two operators of its compiled part: they are declared here and never run. Load it with
``-p tests.families.torchvision_operators``.
"""

import torch

OPERATORS = ("nms", "qnms")

if not hasattr(torch.ops.torchvision, "nms"):
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
