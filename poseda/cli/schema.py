"""The options of each command, as frozen dataclasses made of the library's own configs. No Hydra here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from poseda.data.detections.options import DetectionOptions
from poseda.data.domains import DomainConfig
from poseda.data.recordings import RawOptions
from poseda.engine.streaming import StreamConfig
from poseda.engine.supervised import TrainConfig
from poseda.errors import ConfigError, check_seed
from poseda.lifters.inference import LiftConfig
from poseda.stages.pipeline import AdaptConfig
from poseda.stages.tto import TTOConfig
from poseda.uncertainty.ensemble import EnsembleConfig
from poseda.uncertainty.jitter import JitterConfig
from poseda.uncertainty.posthoc import PosthocConfig

NO_SOURCE = "none"
"""source=none: an adaptation without source clips."""


@dataclass(frozen=True)
class DataConfig:
    """Where prepared data sets lie, and what may stand in for them."""

    root: str = "data"
    """Folder of prepared data sets: <root>/<domain>/train.safetensors and test.safetensors."""
    require: Literal["any", "real"] = "any"
    """any: an embedded stand-in serves where no prepared data is found; real: that is an error."""


@dataclass(frozen=True)
class LifterChoice:
    """A lifter by name, with the options that build it."""

    name: str = "simplebaseline"
    """Name of the lifter."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its options, as `poseda.create_lifter` takes them."""


@dataclass(frozen=True)
class StageChoice:
    """A stage by name, with its config object."""

    name: str
    """Name of the stage's file in poseda/stages."""
    config: object
    """An instance of the stage's Config."""


@dataclass(frozen=True)
class Job:
    """What a command is asked to do."""


@dataclass(frozen=True)
class Machine(Job):
    """What every command takes that computes."""

    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads that PyTorch may use; 0 leaves its own choice."""
    products: Literal["auto", "torch", "onednn"] = "auto"
    """Who multiplies float32 matrices on a CPU: auto (oneDNN on AMD processors with AVX-512, where it is twice as
    fast), onednn, or torch for PyTorch's own choice. The last digits of results differ."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"threads={self.threads} must be 0 (PyTorch's own choice) or more.")


@dataclass(frozen=True)
class Run(Machine):
    """What every command takes that keeps a run folder."""

    seed: int = 0
    """Seed of every random draw; -m seed=0,1,2 runs three."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on where an interrupted run stopped; never: start afresh and drop the earlier run."""
    out: str = "runs"
    """Folder of all runs; one run lies in <out>/<source>-<target>/<name>/seed<seed>."""
    name: str = "default"
    """Name of this run: settings that differ want names that differ."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where prepared data sets lie."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        if not self.out:
            raise ConfigError("out= must name a folder, such as out=runs.")
        if self.name in ("", "..") or Path(self.name).name != self.name:
            raise ConfigError(f"name={self.name} must be a plain folder name.")


@dataclass(frozen=True)
class TrainJob(Run):
    """Train a lifter on a labelled domain; writes a checkpoint with its card."""

    source: DomainConfig = field(default_factory=DomainConfig)
    """The labelled domain to train on."""
    lifter: LifterChoice = field(default_factory=LifterChoice)
    """The network."""
    source_model: str = ""
    """Train on from this source model, which brings its own lifter; empty: from random weights."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Supervised training."""
    protocol: str = "h36m17"
    """How the source's test clips are scored: official17, poseaug16 or h36m17."""
    flip: bool | None = None
    """Average with the mirrored input when scoring; null: as the protocol says."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out) / domain_label(self.source) / self.name / f"seed{self.seed}"


@dataclass(frozen=True)
class AdaptJob(Run):
    """Adapt a source-trained lifter to an unlabelled target domain, and show what each stage brings."""

    source: DomainConfig = field(default_factory=DomainConfig)
    """The labelled domain; none: no source clips, for stages that work on the target alone."""
    target: DomainConfig = field(default_factory=lambda: DomainConfig(name="3dhp"))
    """The domain to adapt to: 2D only; its 3D is seen by the evaluation alone."""
    lifter: LifterChoice = field(default_factory=LifterChoice)
    """The network."""
    stages: tuple[str, ...] = ("bodies", "gpa", "lpa", "mean_teacher", "tto")
    """What adapts the lifter, in this order; each adds a row to the table."""
    stage_configs: Mapping[str, StageChoice] = field(default_factory=dict)
    """The settings of each name in `stages`; on the command line <stage>.<option>=..."""
    checkpoint: str = ""
    """Source-trained lifter to start from: ours, or an official checkpoint (docs/lifters.md), which brings its own
    lifter; empty: the shipped one where it fits, else one is trained."""
    source_model: str = ""
    """In place of checkpoint=: a source model by name, which brings its own lifter; python -m poseda.models lists
    them. Without source=, the source is none."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Supervised training of the source model and of the oracle."""
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    """Adaptation."""
    rows: Literal["all", "last"] = "all"
    """all: a row for each stage that is added; last: source only, and what one training of all stages gives, without
    and with those that act at test time alone."""
    oracle: bool = False
    """Also train on the target's own labels: the row that shows what could be reached, and that row refined by the
    test-time stages."""
    protocol: str = "official17"
    """How the target's test clips are scored: official17, poseaug16 or h36m17."""
    flip: bool | None = None
    """Average with the mirrored input when scoring; null: as the protocol says."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        pair = f"{domain_label(self.source)}-{domain_label(self.target)}"
        return Path(self.out) / pair / self.name / f"seed{self.seed}"


@dataclass(frozen=True)
class EvaluateJob(Machine):
    """Score a lifter's checkpoint on the test clips of a domain."""

    checkpoint: str = ""
    """The lifter: a checkpoint that train or adapt wrote, or an official one (docs/lifters.md)."""
    source_model: str = ""
    """In place of checkpoint=: a source model by name, which brings its own lifter; python -m poseda.models lists
    them."""
    target: DomainConfig = field(default_factory=lambda: DomainConfig(name="3dhp"))
    """The labelled domain to score on; target=archive target.path=FILE takes an archive."""
    protocol: str = "official17"
    """How poses are scored: official17, poseaug16 or h36m17."""
    flip: bool | None = None
    """Average with the mirrored input; null: as the protocol says."""
    output: str = ""
    """JSON file for the numbers; empty: print only."""
    tails: Literal["exact", "mixste", "hot", "motionbert"] = "exact"
    """How sequences are cut into a lifter's windows: exact scores each frame once; the others do as these papers did,
    counting some frames twice or leaving some out."""
    uncertainty: str = ""
    """Also score this: the file that calibrate wrote, or own for the lifter's own head as it is; empty: poses only."""
    inflate: bool = False
    """Widen uncertainties where poses fit their 2D worse than on the source; reads no label."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    """Lifting of whole clips."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where prepared data sets lie."""


@dataclass(frozen=True)
class PredictJob(DetectionOptions, Machine):
    """Lift 2D keypoints to 3D poses in millimetres."""

    checkpoint: str = ""
    """The lifter: a checkpoint that train or adapt wrote, or an official one (docs/lifters.md)."""
    source_model: str = ""
    """In place of checkpoint=: a source model by name, which brings its own lifter; python -m poseda.models lists
    them."""
    input: str = ""
    """An archive, or a 2D detector's file or folder (docs/datasets.md lists the formats)."""
    output: str = "poses.npz"
    """File for the poses: .npz, .json or .bvh."""
    animation: str = ""
    """GIF of the longest sequence, its 2D beside its pose; empty: none."""
    refine: bool = False
    """Refine the poses by test-time optimisation."""
    tto: TTOConfig = field(default_factory=TTOConfig)
    """Test-time optimisation, for refine=true."""
    flip: bool = False
    """Average with the mirrored input."""
    uncertainty: str = ""
    """Write sigma and 90 % radii by this: the file that calibrate wrote, or own for the lifter's own head, not
    calibrated; empty: sigma of the own head, if there is one."""
    inflate: bool = False
    """Widen uncertainties where poses fit their 2D worse than on the source."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    """Lifting of whole clips."""
    follow: bool = False
    """Lift a stream, frame by frame: JSON lines from input=- or a growing FILE.jsonl (docs/streaming.md)."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """How a stream is followed."""

    def __post_init__(self) -> None:
        Machine.__post_init__(self)
        DetectionOptions.__post_init__(self)


@dataclass(frozen=True)
class CalibrateJob(Machine):
    """Give a lifter calibrated uncertainty, from people of the source that it never saw."""

    checkpoint: str = ""
    """The lifter: a checkpoint that train or adapt wrote, or an official one (docs/lifters.md)."""
    source_model: str = ""
    """In place of checkpoint=: a source model by name; python -m poseda.models lists them."""
    source: DomainConfig = field(default_factory=DomainConfig)
    """The labelled domain that the lifter was trained on; its test people are those that it never saw."""
    uncertainty: str = "own"
    """Where sigma comes from: own (the lifter's own head), posthoc (a head on the frozen lifter), constant (one number
    a joint), flip, jitter (how far mirrored or noisy looks scatter), ensemble (other seeds)."""
    recalibrate: Literal["temperature", "isotonic", "conformal"] = "conformal"
    """What makes it hold: temperature (one factor a joint), isotonic (a rising curve a joint), conformal (radii of
    guaranteed coverage on people like these)."""
    density: Literal["laplace", "gaussian", "exponential"] = "laplace"
    """Law of the errors, where uncertainty brings none: exp(-r/s)/(8 pi s^3), the normal law, or an exponential
    radius (UAO)."""
    score_share: float = 0.5
    """Share of the test people's takes that is kept back to score on; 0: fit on all, and score nothing."""
    flip: bool = False
    """For poses that are averaged with the mirrored input."""
    output: str = "uncertainty.safetensors"
    """File to write; predict and evaluate take it as uncertainty=FILE."""
    posthoc: PosthocConfig = field(default_factory=PosthocConfig)
    """The head on a frozen lifter."""
    jitter: JitterConfig = field(default_factory=JitterConfig)
    """Noisy looks."""
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    """Other seeds."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    """Lifting of whole clips."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where prepared data sets lie."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.score_share < 1:
            raise ConfigError(f"score_share={self.score_share}: must be in [0, 1).")


@dataclass(frozen=True)
class PrepareJob(RawOptions, Job):
    """Turn a raw data set into archives, or say what is in some data and what looks wrong."""

    dataset: str = ""
    """Which data set `raw` (or `check`) holds."""
    raw: str = ""
    """File or folder as it was downloaded."""
    output: str = ""
    """Folder for train.safetensors and test.safetensors; empty: data/<dataset>, where source=h36m and
    target=3dhp look for theirs."""
    check: str = ""
    """Archive, folder of archives, or, with dataset=, raw data: print what is there and what looks wrong; write
    nothing.
    """


@dataclass(frozen=True)
class ExportJob(Job):
    """Write a lifter as a program for other runtimes."""

    checkpoint: str = ""
    """The lifter: a checkpoint that train or adapt wrote, or an official one (docs/lifters.md)."""
    source_model: str = ""
    """In place of checkpoint=: a source model by name, which brings its own lifter; python -m poseda.models lists
    them."""
    output: str = ""
    """File to write: .pt2 for torch.export, .onnx for ONNX."""


@dataclass(frozen=True)
class ModelsJob(Job):
    """List source models, show their cards, fetch those that are not in the package."""

    model: str = ""
    """Name, or a pattern such as *-cmu-*: show these models' cards; empty: a table of all models."""
    fetch: bool = False
    """Download the models that `model` names where they are not here yet."""
    output: str = ""
    """Markdown file for the cards, in place of printing them."""


JOBS: dict[str, type[Job]] = {
    "train": TrainJob,
    "adapt": AdaptJob,
    "evaluate": EvaluateJob,
    "predict": PredictJob,
    "calibrate": CalibrateJob,
    "prepare": PrepareJob,
    "export": ExportJob,
    "models": ModelsJob,
}


def domain_label(domain: DomainConfig) -> str:
    """A domain in a folder name: its own name, or file and rig where it is made of them (cmu17@h36m)."""
    if not domain.path:
        return domain.name
    rig = f"@{Path(domain.rig).stem}" if domain.rig else ""
    return f"{Path(domain.path).stem}{rig}"
