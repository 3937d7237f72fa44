"""The fixed set on which a shipped model gives the value of its card: data that the package makes itself."""

from __future__ import annotations

import os
from typing import Any

from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.evaluate import evaluate_lifter
from poseda.lifters.base import Lifter

CHECK = DomainConfig("h36m", every=5, max_frames=2000)
"""Test clips of Human3.6M's stand-in, thinned. Not what the model is for: a value that anybody can compute."""
TOLERANCE_MM = 0.1


def check_entry(lifter: Lifter) -> dict[str, Any]:
    """MPJPE of a lifter on the fixed set, as its card holds it."""
    # nothing is prepared at os.devnull, so that it is the stand-in wherever this runs
    test = load_domain(CHECK, root=os.devnull, skeleton=lifter.skeleton.name).test
    evaluation = evaluate_lifter(lifter, test)
    return {
        "set": f"h36m stand-in, test clips, every={CHECK.every}, max_frames={CHECK.max_frames}",
        "protocol": evaluation.protocol.name,
        "frames": evaluation.frames,
        "mpjpe": round(evaluation.values["mpjpe"], 3),
    }
