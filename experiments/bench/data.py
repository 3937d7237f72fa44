"""Times of data: preparing a raw data set, opening its archive, projecting it, loading it as a domain.

python experiments/bench/data.py --frames 1560000 --threads 2

Made-up motion in VideoPose3D's layout of Human3.6M (7 subjects, 32 joints, metres, no 2D file, so that preparing
projects as well), written to a temporary folder. Beside preparing stands the time that reading the file's bytes takes.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from poseda.data.archive import open_archive
from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.geometry.camera import project_frames
from poseda.geometry.rigs import load_rig

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ACTIONS = 30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--frames", type=int, default=1_560_000, help="frames of all cameras together")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.frames} frames")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "data_3d_h36m.npz"
        write_raw(raw, arguments.frames)
        print(f"raw file: {raw.stat().st_size / 2**20:.0f} MiB")
        timed("read the raw file's bytes once", raw.read_bytes)
        before = peak()
        timed("prepare", lambda: prepare_dataset(open_raw_dataset("h36m", raw), folder / "out"))
        print(f"{'peak memory of preparing':<44}{peak():8.0f} MiB (before: {before:.0f})")
        train = folder / "out" / "train.safetensors"
        timed("open the archive of train", lambda: open_archive(train))
        clips = timed("open it and check every frame", lambda: open_archive(train).clips())
        print(f"{'frames of train':<44}{clips.num_frames:8d}")
    project_everything(arguments.frames)


def write_raw(path: Path, frames: int) -> None:
    """An npz of made-up people who stand in the middle of the rig."""
    length = frames // (4 * len(SUBJECTS) * ACTIONS)
    random = np.random.default_rng(0)
    people = {}
    for subject in SUBJECTS:
        body = random.normal(0, 0.3, (1, 32, 3)) + np.array([0.0, 0.0, 1.0])
        people[subject] = {
            f"action {k}": (body + random.normal(0, 0.02, (length, 32, 3))).astype(np.float32) for k in range(ACTIONS)
        }
    np.savez(path, positions_3d=np.array(people, dtype=object))


def project_everything(frames: int) -> None:
    """Whole-domain projection with one camera a frame."""
    rig = load_rig("h36m")
    generator = torch.Generator().manual_seed(0)
    cameras = rig.cameras[torch.randint(0, len(rig.cameras), (frames,), generator=generator)]
    points = torch.randn(frames, 17, 3, generator=generator) * 300 + torch.tensor([0.0, 0.0, 4500.0])
    timed("project all frames, a camera a frame", lambda: project_frames(cameras, points))


def timed(what: str, run: Callable[[], object]) -> object:
    """Run once and print the wall time."""
    begin = time.perf_counter()
    result = run()
    print(f"{what:<44}{time.perf_counter() - begin:8.2f} s")
    return result


def peak() -> float:
    """Largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
