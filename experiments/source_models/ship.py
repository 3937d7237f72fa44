"""Turn the checkpoint of a training run into a shipped source model: half precision, its card kept, the loss checked.

    python -m poseda.train source=h36m lifter=simplebaseline_small train.steps=3000 train.batch_size=512
    python experiments/source_models/ship.py runs/h36m/default/seed0/lifter.safetensors NAME

The second command scores the full and the half-precision weights on the source's test clips, refuses a difference of
0.1 mm or more, and writes poseda/zoo/<name>.safetensors.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.engine.evaluate import evaluate_lifter
from poseda.errors import CheckpointError
from poseda.zoo import FOLDER

LIMIT_MM = 0.1


def main() -> None:
    """Check and write one model."""
    parser = argparse.ArgumentParser(description="ship a trained lifter as a source model")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    lifter, card = load_lifter(arguments.checkpoint)
    source = card["settings"]["source"]
    config = DomainConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in source.items()})
    test = load_domain(config, root="data", skeleton=lifter.skeleton.name).test
    full = evaluate_lifter(lifter, test).values["mpjpe"]
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "half.safetensors"
        save_lifter(half, lifter, card, half=True)
        halved = evaluate_lifter(load_lifter(half)[0], test).values["mpjpe"]
        print(f"source test MPJPE: {full:.3f} mm full, {halved:.3f} mm half precision")
        if abs(full - halved) >= LIMIT_MM:
            raise CheckpointError(f"half precision costs {halved - full:.3f} mm: not shipped.")
        path = FOLDER / f"{arguments.name}.safetensors"
        path.write_bytes(half.read_bytes())
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
