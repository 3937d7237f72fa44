"""What `python -m poseda.predict` reads and draws."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

from poseda.cli.help import shown_value
from poseda.cli.report import job_protocol
from poseda.cli.schema import AdaptJob, PredictJob
from poseda.data.archive import load_archive
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.detections import read_detections
from poseda.data.detections.options import DetectionOptions
from poseda.engine.progress import Progress
from poseda.errors import ConfigError
from poseda.lifters.inference import LiftedClips
from poseda.skeleton import Skeleton
from poseda.stages import stage_class
from poseda.stages.tto import TTOConfig
from poseda.viz.animation import save_animation


def read_input(job: PredictJob, skeleton: Skeleton) -> tuple[UnlabelledClips, tuple[str, ...]]:
    """The 2D of an archive or of a detector, in the lifter's joints, and what was found or assumed."""
    options = {field.name: getattr(job, field.name) for field in fields(DetectionOptions)}
    if Path(job.input).suffix != ".safetensors":
        found = read_detections(job.input, DetectionOptions(**options), skeleton.name)
        return found.clips, (found.recognised, *found.remarks)
    for field in fields(DetectionOptions):
        if options[field.name] != field.default:
            raise ConfigError(f"{field.name} has no meaning for an archive, which says it itself; leave it out.")
    clips = load_archive(job.input)
    return (clips.unlabelled() if isinstance(clips, LabelledClips) else clips).convert(skeleton), ()


def predict_words(job: AdaptJob, checkpoint: Path) -> str:
    """The command that lifts other clips as the last row of an adaptation was lifted; empty where none does: after
    other test-time stages than tto, or one that reads the true root or source clips."""
    words = [f"checkpoint={checkpoint}", "input=FILE"]
    words += ["flip=true"] if job_protocol(job).flip else []
    for label in job.stages:
        config = job.stage_configs[label].config
        stage = stage_class(job.stage_configs[label].name)
        again = isinstance(config, TTOConfig) and config.root != "oracle" and config.latent != "lowrank"
        if stage.overrides("refine") and not again:
            return ""
        if isinstance(config, TTOConfig):
            asked, usual = vars(config), vars(TTOConfig())
            changed = [f"tto.{key}={shown_value(value)}" for key, value in asked.items() if value != usual[key]]
            words += ["refine=true", *changed]
    return f"python -m poseda.predict {shlex.join(words)}"


def animate(path: str, lifted: LiftedClips, clips: UnlabelledClips) -> str:
    """Write the animation of the longest sequence and say what it shows."""
    number = int(clips.bounds.diff().argmax())
    rows = slice(int(clips.bounds[number]), int(clips.bounds[number + 1]))
    name = clips.sequences[number].name
    bars: list[Progress] = []

    def report(done: int, total: int) -> None:
        bars.extend([Progress("animation", total)] if not bars else [])
        bars[0].update(done)

    frames = save_animation(
        path,
        clips.keypoints[rows],
        lifted.poses[rows],
        clips.skeleton,
        fps=clips.fps,
        visible=clips.visible[rows],
        remark=name,
        report=report,
    )
    return f"{path}: {frames} frames of {name}, the longest of {len(clips.sequences)} sequences."
