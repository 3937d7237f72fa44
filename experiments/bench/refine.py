"""Frames a second of test-time optimisation for each latent, beside plain lifting.

python experiments/bench/refine.py --device cpu --threads 1 --batch 8192
"""

from __future__ import annotations

from machine import median_seconds, options, stand_in, start

import poseda


def main() -> None:
    """Print the table."""
    arguments = options(str(__doc__).split("\n")[0], batch=8192, repeats=3).parse_args()
    device = start(arguments)
    clips = stand_in("3dhp", device).limit(arguments.batch).unlabelled()
    lifter = poseda.create_lifter("simplebaseline", seed=0, hidden=arguments.hidden).to(device).eval()
    lifted = poseda.lift_clips(lifter, clips)
    steps = poseda.TTO().config.steps
    print(f"SimpleBaseline {arguments.hidden}, {clips.num_frames} frames in one batch, median of {arguments.repeats}")
    print(f"{'what':24}{'frames/s':>10}{'s':>9}{'+-':>7}")
    runs = {"lifting": lambda: poseda.lift_clips(lifter, clips, batch_size=arguments.batch)}
    for latent in ("output", "feature", "input"):
        stage = poseda.TTO(type(poseda.TTO().config)(latent=latent, chunk=arguments.batch))
        runs[f"TTO {latent}, {steps} steps"] = lambda stage=stage: stage.refine(lifter, clips, lifted)
    for name, run in runs.items():
        median, spread = median_seconds(run, device, arguments.repeats)
        print(f"{name:24}{clips.num_frames / median:10.0f}{median:9.3f}{spread:7.3f}")


if __name__ == "__main__":
    main()
