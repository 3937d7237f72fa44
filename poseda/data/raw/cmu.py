"""The CMU Graphics Lab Motion Capture Database, as ASF/AMC or as converted to BVH, through a rig of cameras.

Joints, as in the ASF's bones: pelvis = middle of the hips, spine = end of lowerback, thorax = end of thorax (base of
the neck), nose = middle of upperneck, head = end of head, wrist = end of l/rwrist, others = the Vicon joint centres.
World: CMU's y up becomes z up; in each trial the floor is moved to z = 0 under the lowest feet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from poseda.data.mocap.asf import Asf, read_amc, read_asf
from poseda.data.mocap.bvh import Bvh, read_bvh, read_bvh_names
from poseda.data.mocap.cgspeed import MARKS, UNIT_MM, mend_bones, without_t_pose
from poseda.data.mocap.joint_names import Recipe, feet, find_joints, standing_height, take_joints
from poseda.data.mocap.kinematics import TO_Z_UP, Array, on_floor
from poseda.data.mocap.text import read_lines
from poseda.data.recordings import RawDataset, RawOptions, Unit, WorldTake
from poseda.errors import DataError, MissingDataError
from poseda.skeleton import get_skeleton

TITLE = "CMU Graphics Lab Motion Capture Database"
SITE = "http://mocap.cs.cmu.edu"
LAYOUTS = (
    "<n>/<n>.asf with <n>/<n>_<trial>.amc (allasfamc.zip)",
    "<n>_<trial>.bvh, in folders or flat (cgspeed; with the subjects' <n>.asf beside them the thorax is exact)",
    "<n>_<trial>.bvh of cgspeed's Daz-friendly release",
    "any *index*.txt with lines '<n>_<trial> <what is done>'",
)
USES = ("rig", "test_subjects", "seed")
FPS = 50.0
CAPTURE_FPS = 120.0
LICENCE = (
    "CMU: free for research and inside products, not to be resold even converted; cite: 'The data used in this project "
    "was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217.' (" + SITE + ")"
)

_BONES: Recipe = {
    "pelvis": ("lhipjoint", "rhipjoint"), "rhip": ("rhipjoint",), "rknee": ("rfemur",), "rankle": ("rtibia",),
    "lhip": ("lhipjoint",), "lknee": ("lfemur",), "lankle": ("ltibia",), "spine": ("lowerback",),
    "thorax": ("thorax",), "nose": ("lowerneck", "upperneck"), "head": ("head",), "lshoulder": ("lclavicle",),
    "lelbow": ("lhumerus",), "lwrist": ("lwrist",), "rshoulder": ("rclavicle",), "relbow": ("rhumerus",),
    "rwrist": ("rwrist",),
}  # fmt: skip
_BVH_ENDS = {
    "lowerback": "Spine", "thorax": "Neck", "lowerneck": "Neck1", "upperneck": "Head", "head": "Head_end",
    **{f"{s}{bone}": f"{side}{joint}" for s, side in (("l", "Left"), ("r", "Right")) for bone, joint in (
        ("hipjoint", "UpLeg"), ("femur", "Leg"), ("tibia", "Foot"), ("clavicle", "Arm"), ("humerus", "ForeArm"),
        ("wrist", "FingerBase"))},
}  # fmt: skip
"""Bone of the ASF -> the joint of the BVH that lies at its end."""
_CGSPEED: Recipe = {joint: tuple(_BVH_ENDS[bone] for bone in bones) for joint, bones in _BONES.items()}
_DAZ_MARKS = frozenset({"abdomen", "lThigh", "lShldr", "leftEye", "rightEye"})
_DAZ_HEAD: Recipe = {"nose": ("head",), "head": ("leftEye", "rightEye")}
_DAZ_UNIT_MM = 10.0
_NUMBER = re.compile(r"\d{1,3}")
_TRIAL = re.compile(r"(\d{1,3})_(\d{1,3})")
_INDEX_LINE = re.compile(r"\s*(\d{1,3})_(\d{1,3})\s+(\S.*)")
_RATE_NOTE = (
    "120 frames/s is CMU's rate, which AMC files do not state; some trials of subjects 87 and above (88, 90) fall as "
    "if taken at 60: leave them out"
)


@dataclass(frozen=True)
class _Trial:
    subject: str
    number: str
    file: Path
    skeleton: Path | None
    """The subject's ASF."""
    action: str

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.subject}_{self.number}"


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """All trials under a folder, or one .amc or .bvh file; a trial that is there as both is read from ASF/AMC.

    Raises MissingDataError without any trial or without the ASF of an AMC, DataError for BVH files of unknown joints.
    """
    trials = _find_trials(raw)
    if not trials:
        raise MissingDataError(f"{raw}: no trial of CMU there; looked for {'; '.join(LAYOUTS[:2])}.")
    converted = [trial for trial in trials if trial.file.suffix.lower() == ".bvh"]
    kinds = {_release(read_bvh_names(group[0].file), group[0].file) for group in _by_subject(converted)}
    said = [f"{len(trials) - len(converted)} trials as ASF/AMC"] if len(converted) < len(trials) else []
    said += [f"{len(converted)} trials as BVH ({' and '.join(sorted(kinds))})"] if converted else []
    return RawDataset(
        name="cmu",
        recognised=f"CMU motion capture: {', '.join(said)}, of {len({trial.subject for trial in trials})} subjects",
        skeleton=get_skeleton("h36m17"),
        fps=FPS,
        licence=LICENCE,
        label_scale="metric",
        keypoints="gt",
        units=tuple(_unit(group) for group in _by_subject(trials)),
        kind="motion",
        notes="; ".join(_notes(converted, kinds)),
    )


def _unit(trials: Sequence[_Trial]) -> Unit:
    """All trials of one subject."""
    skeletons = {trial.skeleton for trial in trials if trial.skeleton}
    files = (*(trial.file for trial in trials), *sorted(skeletons))
    return Unit(trials[0].subject, None, files, partial(_read, trials))


def _by_subject(trials: Sequence[_Trial]) -> list[tuple[_Trial, ...]]:
    return [tuple(group) for _, group in groupby(trials, key=lambda trial: trial.subject)]


def _find_trials(raw: Path) -> list[_Trial]:
    """Trials by subject and number. Subjects are named as at CMU, with at least two digits."""
    folder = raw.parent if raw.is_file() else raw
    files = sorted(raw.parent.glob("*") if raw.is_file() else raw.rglob("*"))
    skeletons = {
        _digits(file.stem): file for file in files if file.suffix.lower() == ".asf" and _NUMBER.fullmatch(file.stem)
    }
    actions = _read_index(folder, files)
    chosen: dict[tuple[str, str], Path] = {}
    for ending in (".bvh", ".amc"):  # .amc last: it is the original
        for file in [raw] if raw.is_file() else files:
            match = _TRIAL.fullmatch(file.stem)
            if match and file.suffix.lower() == ending:
                chosen[_digits(match[1]), _digits(match[2])] = file
    trials = []
    for (subject, number), file in sorted(chosen.items()):
        skeleton = skeletons.get(subject)
        if skeleton is None and file.suffix.lower() == ".amc":
            raise MissingDataError(f"{file}: its skeleton {subject}.asf is not under {folder}; the archive has it.")
        trials.append(_Trial(subject, number, file, skeleton, actions.get((subject, number), "")))
    return trials


def _digits(number: str) -> str:
    return f"{int(number):02d}"


def _read_index(folder: Path, files: Sequence[Path]) -> dict[tuple[str, str], str]:
    """(subject, trial) -> what is done, from index files of the releases."""
    lines = [line for file in files if file.suffix.lower() == ".txt" and "index" in file.name.lower()
             for line in read_lines(file)]  # fmt: skip
    matches = [match for line in lines if (match := _INDEX_LINE.match(line))]
    return {(_digits(match[1]), _digits(match[2])): match[3].strip() for match in matches}


def _release(names: Sequence[str], file: Path) -> str:
    """Which conversion a BVH file is of, by its joints."""
    if set(names) >= MARKS:
        return "cgspeed"
    if set(names) >= _DAZ_MARKS:
        return "cgspeed for Daz"
    shown = ", ".join(names[:40])
    raise DataError(f"{file}: joints of no known BVH release of CMU ({shown}); dataset=bvh reads other skeletons.")


def _notes(converted: Sequence[_Trial], kinds: set[str]) -> list[str]:
    """What a reader of a result must know of these files."""
    notes = [_RATE_NOTE]
    if "cgspeed" in kinds:
        notes.append("BVH: rest pose at frame 0 left out, dropped thorax and wrist bones restored")
        without = sorted({trial.subject for trial in converted if trial.skeleton is None})
        if without:
            notes.append(f"no ASF for {', '.join(without)}: thorax taken from the upper back, about 4 mm off")
    if "cgspeed for Daz" in kinds:
        notes.append("Daz release: retargeted to another skeleton; nose = base of the skull, head = middle of the eyes")
    return notes


def _read(trials: Sequence[_Trial]) -> Iterator[WorldTake]:
    """The trials of one subject, whose skeleton is read once."""
    skeleton = read_asf(trials[0].skeleton) if trials[0].skeleton else None
    for trial in trials:
        if skeleton and trial.file.suffix.lower() == ".amc":
            joints, fps = _from_asf(trial.file, skeleton), CAPTURE_FPS
        else:
            motion = without_t_pose(read_bvh(trial.file))
            joints, fps = _from_bvh(motion, skeleton), motion.fps
        yield WorldTake(trial.name, trial.subject, trial.action or trial.number, fps, joints)


def _from_asf(file: Path, skeleton: Asf) -> Array:
    """(T, 17, 3) mm, z up, of an AMC file."""
    lacking = sorted({bone for bones in _BONES.values() for bone in bones} - set(skeleton.index))
    if lacking:
        raise DataError(f"{skeleton.path}: has no bone '{lacking[0]}', which CMU's skeletons have.")
    ends = skeleton.ends(read_amc(file, skeleton)) @ TO_Z_UP["y"].T
    return _take(ends, skeleton.index, skeleton.parents, _BONES)


def _from_bvh(motion: Bvh, skeleton: Asf | None) -> Array:
    """(T, 17, 3) mm, z up, of a BVH file."""
    if _release(motion.names, motion.path) == "cgspeed":
        mended = mend_bones(motion, skeleton)
        return _take(mended.positions() * UNIT_MM @ TO_Z_UP["y"].T, motion.index, motion.parents, _CGSPEED)
    recipe: Recipe = {**find_joints(motion).recipe, **_DAZ_HEAD}
    joints = _take(motion.positions() * _DAZ_UNIT_MM @ TO_Z_UP["y"].T, motion.index, motion.parents, recipe)
    height = standing_height(joints)
    if not 1200 < height < 2200:
        raise DataError(f"{motion.path}: the person is {height:.0f} mm tall in centimetres; use dataset=bvh.")
    return joints


def _take(points: Array, index: Mapping[str, int], parents: Sequence[int], recipe: Recipe) -> Array:
    joints = take_joints(points, index, recipe)
    return on_floor(joints, points[:, feet(parents, [index[recipe[ankle][0]] for ankle in ("lankle", "rankle")])])
