"""For tests of networks with many batch norms and ReLUs."""

from poseda.lifters.base import Lifter


def awake(lifter: Lifter) -> Lifter:
    """The lifter with running means below its activations, so that no ReLU is off for all inputs."""
    for key, value in lifter.state_dict().items():
        if key.endswith("running_mean"):
            value.sub_(1.5)
    return lifter
