"""Small raw data in every layout that the readers list, with the poses that archives made of them must hold."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.skeleton import get_skeleton

Array = NDArray[np.float64]
# Bones of SMPL-X that begin at joints of h36m17.
SMPL_BONES = {
    "pelvis": 0, "lhip": 1, "rhip": 2, "lknee": 4, "rknee": 5, "lankle": 7, "rankle": 8, "thorax": 12, "lshoulder": 16,
    "rshoulder": 17, "lelbow": 18, "relbow": 19, "lwrist": 20, "rwrist": 21,
}  # fmt: skip
H36M17 = get_skeleton("h36m17").joints


@dataclass(frozen=True)
class Written:
    """What must come of what was written."""

    said: str
    """A piece of what the command says it has recognised."""
    joints: tuple[str, ...]
    """Names of the joints of the arrays below; an archive's other joints are not compared."""
    seen: Mapping[str, Array] = field(default_factory=dict)
    """Sequence of an archive -> its poses (T, J, 3) mm, camera frame."""
    world: Mapping[str, Array] = field(default_factory=dict)
    """Take of motion capture -> its first pose (J, 3) mm, z up, on the floor."""
    options: tuple[str, ...] = ()
    """Words of the command beside dataset, raw and output."""
    within: float = 0.05
    """mm by which poses may differ."""
    test: str = ""
    """Archive in the output folder to score on; empty: the folder."""


@dataclass(frozen=True)
class Case:
    """A layout: the beginnings of the lines of LAYOUTS that it stands for, and what writes it into a folder."""

    dataset: str
    lines: tuple[str, ...]
    write: Callable[[Path], Written]


CASES: dict[str, Case] = {}


def case(dataset: str, *lines: str) -> Callable[[Callable[[Path], Written]], Callable[[Path], Written]]:
    """Register a writer under its own name."""

    def register(write: Callable[[Path], Written]) -> Callable[[Path], Written]:
        CASES[write.__name__] = Case(dataset, lines, write)
        return write

    return register


def writers(name: str) -> ModuleType:
    """The reader's own tests, which have the writers of its layouts; imported late, as they may need h5py."""
    return importlib.import_module(f"tests.data.raw.test_{name}")


# Human3.6M


def h36m_views(subact: bool = False) -> dict[str, Array]:
    """The takes of the test subject, and one of the training subject, in the four cameras."""
    made = writers("h36m")
    names = {("S1", "Directions"): "Directions", ("S11", "Photo"): "Photo"}
    places = list(made.PLACES.values())
    return {
        f"{subject}/{take}{' subact1' if subact else ''}/{camera}":
            made.in_camera(made.known_takes()[subject][take], subject, camera)[:, places]
        for subject, take in names
        for camera in made.CAMERAS
    }  # fmt: skip


def h36m(said: str, *options: str, subact: bool = False) -> Written:
    return Written(said, tuple(writers("h36m").PLACES), h36m_views(subact), options=options)


@case("h36m", "data_3d_h36m.npz")
def h36m_videopose3d_gt(raw: Path) -> Written:
    writers("h36m").save_3d(raw, writers("h36m").known_takes())
    return h36m("VideoPose3D")


@case("h36m", "data_3d_h36m.npz")
def h36m_videopose3d_detected(raw: Path) -> Written:
    made = writers("h36m")
    takes = made.known_takes()
    made.save_3d(raw, takes)
    made.save_2d(raw, "cpn_ft_h36m_dbb", made.detected(takes, 17, extra=1), 17, made.H36M17_SIDES)
    return h36m("VideoPose3D", "keypoints=cpn_ft_h36m_dbb")


@case("h36m", "h36m/S*/MyPoses")
def h36m_baseline_h5(raw: Path) -> Written:
    writers("h36m").save_baseline(raw / "h36m", writers("h36m").known_takes())
    return h36m("3d-pose-baseline")


@case("h36m", "S*/MyPoseFeatures")
def h36m_raw_cdf(raw: Path) -> Written:
    writers("h36m").save_raw(raw, writers("h36m").known_takes(), given=True)
    return h36m("D2_Positions")


@case("h36m", "S*/MyPoseFeatures")
def h36m_raw_cdf_mat(raw: Path) -> Written:
    writers("h36m").save_raw_as_mat(raw, writers("h36m").known_takes())
    return h36m("pose features")


@case("h36m", "h36m_sh_conf_cam_source_final.pkl")
def h36m_motionbert(raw: Path) -> Written:
    made = writers("h36m")
    takes = made.known_takes()
    made.save_motionbert(raw, made.motionbert_part(takes, "S1", False), made.motionbert_part(takes, "S11", True))
    return h36m("MotionBERT", subact=True)


# MPI-INF-3DHP


@case("3dhp", "training set as published")
def mpi_train(raw: Path) -> Written:
    made = writers("3dhp")
    seen = {}
    for name, every in (("S1/Seq2", 2), ("S2/Seq1", 1)):  # recorded at 50 and at 25 frames/s
        made.write_train(raw, name)
        seen |= {f"{name}/{camera}": made.people(12, int(camera))[::every] for camera in made.EIGHT}
    return Written("annot3", made.S28, seen, test="train.safetensors")


@case("3dhp", "test set as published")
def mpi_test(raw: Path) -> Written:
    made = writers("3dhp")
    for number, name in enumerate(("TS1", "TS6")):
        made.write_test(raw, name, seed=number)
    return Written("annot3", made.S28, {"TS1": made.people(12, 0), "TS6": made.people(12, 1)})


def stmo(raw: Path, labels: str, ending: str) -> Written:
    made = writers("3dhp")
    for split in ("train", "test"):
        made.write_stmo(raw / f"data_{split}_3dhp{ending}.npz", labels, split)
    change = made.universal if labels == "universal" else np.asarray
    seen = {"S8/Seq2/6": change(made.people(9, 16)), "TS6": change(made.people(9, 1))}
    return Written(labels, made.S28, seen, options=(f"labels={labels}",))


@case("3dhp", "P-STMO")
def mpi_pstmo(raw: Path) -> Written:
    return stmo(raw, "universal", "")


@case("3dhp", "PoSynDA")
def mpi_posynda(raw: Path) -> Written:
    return stmo(raw, "metric", "_ori")


@case("3dhp", "PoseAug")
def mpi_poseaug(raw: Path) -> Written:
    made = writers("3dhp")
    _, poses = made.poseaug_file(raw / "test_3dhp.npz")
    return Written("PoseAug", made.S28, poses, options=("labels=universal",))


@case("3dhp", "SPIN")
def mpi_spin(raw: Path) -> Written:
    made = writers("3dhp")
    np.savez(raw / "mpi_inf_3dhp_valid.npz", **made.spin_rows({"TS1": [0, 1, 2, 10], "TS5": [4, 5]}))
    people = made.people(40)
    seen = {"TS1/000001": people[:3], "TS1/000011": people[10:11], "TS5/000005": people[4:6]}
    return Written("SPIN", made.S28, seen, options=("labels=universal",))


@case("3dhp", "AdaptPose")
def mpi_adaptpose(raw: Path) -> Written:
    made = writers("3dhp")
    made.write_adaptpose(raw)
    seen = {f"S1/Seq1/{camera}": made.people(6, int(camera)) for camera in made.EIGHT}
    return Written("AdaptPose", made.S28, {**seen, "TS2": made.people(110), "TS3": made.people(110)[100:]})


# 3DPW


@case("3dpw", "sequenceFiles")
def pw_official(raw: Path) -> Written:
    made = writers("3dpw")
    wanted = made.write_sequences(raw)
    names = {"train": "courtyard_box_00", "validation": "stairs_01", "test": "walk_00"}
    seen = {
        f"{names[part]}/person{person}/piece1": poses[2:]  # frame 1 has no valid camera
        for part, people in wanted.items()
        for person, poses in enumerate(people)
    }
    return Written("sequenceFiles", H36M17, seen, options=(f"body_model={made.write_smpl(raw / 'smpl')}",))


@case("3dpw", "SPIN's")
def pw_spin(raw: Path) -> Written:
    made = writers("3dpw")
    parts = [made.spin_rows("a_00", [3, 4, 7], "f", 0, 1), made.spin_rows("b_01", [6, 7], "m", 1, 3)]
    rows = {key: np.concatenate([part[key] for part, _ in parts]) for key in parts[0][0]}
    np.savez(raw / "3dpw_test.npz", **rows)
    (_, a), (_, b) = parts
    seen = {"a_00/person0/3": a[:2], "a_00/person0/7": a[2:], "b_01/person0/6": b}
    options = (f"body_model={made.write_smpl(raw / 'smpl')}",)
    return Written("SPIN", H36M17, seen, options=options, within=1.0)  # boxes tell the root to half a millimetre


@case("3dpw", "AdaptPose's")
def pw_adaptpose(raw: Path) -> Written:
    made = writers("3dpw")
    seen = {}
    for seed, part in enumerate(("train", "test")):
        poses, pixels = made.sixteen_joints(seed)
        metres, screen = poses[:, made.LEGS_LEFT] / 1000, made.screen(pixels)[:, made.LEGS_LEFT]
        np.savez(raw / f"data_3dpw_gt_{part}.npz", positions_3d=metres, positions_2d=screen)
        seen |= {f"data_3dpw_gt_{part}/0": poses[: made.FRAMES], f"data_3dpw_gt_{part}/1": poses[made.FRAMES :]}
    return Written("AdaptPose", get_skeleton("h36m16").joints, seen)


# HumanEva-I and Ski-PosePTZ


@case("humaneva", "data_3d_humaneva15.npz")
def humaneva(raw: Path) -> Written:
    made = writers("humaneva")
    takes = made.known_takes()
    made.save(raw, takes)
    seen = {}
    for half in ("Train/S1", "Validate/S3"):
        take = "Walking 1 chunk0" if half == "Train/S1" else "Jog 1 chunk0"
        world = torch.from_numpy(takes[half][take])[None]
        seen |= {f"{half}/{take}/C{c + 1}": made.camera(half, c).world_to_camera(world)[0].numpy() for c in range(3)}
    return Written("HumanEva", tuple(made.JOINTS), seen)


@case("skipose", "train/labels.h5")
def skipose(raw: Path) -> Written:
    made = writers("skipose")
    seen = {}
    for seed, (split, skier, sequence) in enumerate((("train", 1, 103), ("test", 6, 205))):
        rows, poses = made.labels(skier, sequence, [11, 12, 13, 14], seed)
        made.save(raw / split / "labels.h5", rows)
        in_order = poses[np.lexsort([rows["frame"], rows["cam"]])]
        names = (f"seq{sequence}/cam00/frame000011", f"seq{sequence}/cam03/frame000011")
        seen |= dict(zip(names, (in_order[:4], in_order[4:]), strict=True))
    return Written("Ski-PosePTZ", tuple(made.JOINTS), seen, within=0.1)  # the skier is 30 m away


# Motion capture


def cmu_people(raw: Path, write: Callable[[Any, str], None], said: str) -> Written:
    """Two people who move a little for half a second."""
    made = writers("cmu")
    world = {}
    for subject in ("01", "02"):
        known = made.KnownMotion(frames=61, seed=int(subject))
        bending = ("ltibia", "rtibia", "lradius", "rradius")  # knees and elbows bend one way
        known.dof |= {bone: abs(known.dof[bone]) for bone in bending}
        write(known, subject)
        world[f"{subject}/{subject}_01"] = made.expected(known)[0]
    return Written(said, H36M17, world=world)


@case("cmu", "<n>/<n>.asf", "any *index*.txt")
def cmu_asf_amc(raw: Path) -> Written:
    def write(known: Any, subject: str) -> None:
        folder = raw / "all_asfamc" / "subjects" / subject
        folder.mkdir(parents=True)
        known.write_asf(folder / f"{subject}.asf")
        known.write_amc(folder / f"{subject}_01.amc")

    (raw / "cmu-mocap-index-text.txt").write_text("Subject #1 (walk)\n01_01\twalk on a line\n02_01\trun\n")
    return cmu_people(raw, write, "2 trials as ASF/AMC")


@case("cmu", "<n>_<trial>.bvh, in folders")
def cmu_cgspeed_bvh(raw: Path) -> Written:
    def write(known: Any, subject: str) -> None:
        known.write_asf(raw / f"{subject}.asf")
        known.write_bvh(raw / f"{subject}_01.bvh", drop=True)

    return cmu_people(raw, write, "2 trials as BVH (cgspeed)")


@case("cmu", "<n>_<trial>.bvh of cgspeed's Daz")
def cmu_daz_bvh(raw: Path) -> Written:
    for subject in ("13", "14"):
        (raw / f"{subject}_01.bvh").write_text(writers("cmu").daz(frames=30))
    return Written("cgspeed for Daz", ())


def bvh_people(raw: Path, names: Mapping[str, str], takes: Mapping[str, str], *options: str, **facts: Any) -> Written:
    """Files and the takes that they become."""
    made = writers("bvh")
    for file in takes:
        made.write(raw / file, names, frames=13, **facts)
    return Written("2 BVH files", H36M17, world={take: made.truth()[0] for take in takes.values()}, options=options)


@case("bvh", "<subject>/.../<take>.bvh")
def bvh_folders(raw: Path) -> Written:
    takes = {"S1/day1/walk.bvh": "S1/day1/walk", "S2/run.bvh": "S2/run"}
    return bvh_people(raw, writers("bvh").PROGRAMS["mixamo"], takes)


@case("bvh", "<subject>_<take>.bvh")
def bvh_flat(raw: Path) -> Written:
    takes = {"S1_walk.bvh": "S1_walk", "S2_run.bvh": "S2_run"}
    return bvh_people(raw, writers("bvh").PROGRAMS["rokoko"] | {"top": "HeadTop"}, takes)


@case("bvh", "mapping=<JSON>")
def bvh_mapping(raw: Path) -> Written:
    names = {slot: f"b{number}" for number, slot in enumerate(writers("bvh").BODY)}
    joints: dict[str, Any] = {joint: names[joint] for joint in H36M17 if joint in names}
    joints |= {"pelvis": [names["lhip"], names["rhip"]], "thorax": names["neck"], "spine": names["spine2"]}
    joints |= {"head": names["top"], "nose": [names["neck"], names["top"]]}
    mapping = raw / "map.json"
    mapping.write_text(json.dumps({"joints": joints, "unit_m": 1 / 7, "up": "y", "name": "lab"}))
    takes = {"S1_walk.bvh": "S1_walk", "S2_run.bvh": "S2_run"}
    return bvh_people(raw, names, takes, f"mapping={mapping}", scale=7.0)


def amass_people(
    raw: Path, columns: int, ending: str, model: str, joints: Mapping[str, int], figure: Callable[..., Array]
) -> Written:
    """Two people who stand still for half a second; figure(pose, betas) -> their joints in metres."""
    world = {}
    for seed, name in enumerate(("CMU/01/01_01", "BMLrub/rub001/0000_treadmill")):
        draw = np.random.default_rng(seed)
        pose, betas = draw.normal(0, 0.1, columns), draw.normal(0, 1, 16)
        pose[:3] = (np.pi / 2, 0, 0)  # upright in a world with z up
        poses, trans = np.tile(pose, (61, 1)), np.tile([0.0, 0.0, 0.95], (61, 1))
        writers("amass").write_motion(raw / f"{name}{ending}", columns, poses=poses, betas=betas, trans=trans)
        world[name] = 1000 * (figure(pose, betas) + trans[0])[list(joints.values())]
    return Written("AMASS, SMPL", tuple(joints), world=world, options=(f"body_model={model}",))


@case("amass", "<subset>/<subject>/<motion>_poses.npz")
def amass_smplh(raw: Path) -> Written:
    made = writers("amass")
    model, bodies = made.write_smplh(raw.parent / "smplh")
    rows = made.h36m_rows(bodies["female"])

    def figure(pose: Array, betas: Array) -> Array:
        return np.asarray(rows @ made.pose_mesh(bodies["female"], pose, betas)[0])

    return amass_people(raw, 156, "_poses.npz", model, {joint: i for i, joint in enumerate(H36M17)}, figure)


@case("amass", "<subset>/<subject>/<motion>_stageii.npz")
def amass_smplx(raw: Path) -> Written:
    made = writers("amass")
    body = made.make_body(55, shapes=400)
    model = made.write_body(raw.parent / "smplx" / "SMPLX_FEMALE.npz", body)

    def figure(pose: Array, betas: Array) -> Array:
        return np.asarray(made.pose_mesh(body, pose, betas)[1])

    return amass_people(raw, 165, "_stageii.npz", str(model), SMPL_BONES, figure)


# One's own


def mapping_of(raw: Path, entry: Mapping[str, Any], **fields: Any) -> tuple[str, ...]:
    """The option for a mapping file of one entry."""
    mapping = raw / "map.json"
    mapping.write_text(json.dumps({"fps": 50, "recordings": [{"files": "{s}.npy", "poses": {}, **entry}], **fields}))
    return (f"mapping={mapping}",)


@case("mapped", "mapping=<JSON>")
def mapped_camera(raw: Path) -> Written:
    made = writers("mapped")
    seen = {name: made.in_camera(made.world(frames=6, seed=ord(name)) * 0.4) for name in "AB"}
    for name, poses in seen.items():
        np.save(raw / f"{name}.npy", poses)
    options = mapping_of(raw, {"camera": "left"}, cameras={"left": made.CAMERA})
    return Written("2 recordings", H36M17, seen, options=options)


@case("mapped", "mapping=<JSON>")
def mapped_world(raw: Path) -> Written:
    made = writers("mapped")
    world = {}
    for name in "AB":
        world[name] = made.world(frames=1, seed=ord(name))[0] * 0.6
        np.save(raw / f"{name}.npy", np.tile(world[name], (20, 1, 1)))
    return Written("2 recordings", H36M17, world=world, options=mapping_of(raw, {}, frame="world"))
