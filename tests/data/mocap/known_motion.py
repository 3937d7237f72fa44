"""A CMU-like skeleton and motion that tests know, its joints by a naive float64 loop over scipy's rotations, and the
files that hold it: ASF, AMC and BVH, also with the bones dropped as the widespread conversion drops them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

UNIT_MM = 25.4 / 0.45
# bone: parent, rest vector in units, axis in degrees, degrees of freedom
BONES = {
    "lhipjoint": ("root", (1.8, -1.9, 0.5), (0, 0, 0), ""),
    "lfemur": ("lhipjoint", (2.5, -7.0, 0.0), (0, 0, 20), "rx ry rz"),
    "ltibia": ("lfemur", (2.7, -7.4, 0.0), (0, 0, 20), "rx"),
    "lfoot": ("ltibia", (0.2, -0.5, 2.2), (-90, 0, 20), "rx rz"),
    "ltoes": ("lfoot", (0.0, 0.0, 1.1), (-90, 0, 20), "rx"),
    "rhipjoint": ("root", (-1.6, -1.9, 0.5), (0, 0, 0), ""),
    "rfemur": ("rhipjoint", (-2.6, -7.1, 0.0), (0, 0, -20), "rx ry rz"),
    "rtibia": ("rfemur", (-2.7, -7.5, 0.0), (0, 0, -20), "rx"),
    "rfoot": ("rtibia", (-0.3, -0.7, 2.2), (-90, 0, -20), "rx rz"),
    "rtoes": ("rfoot", (0.0, 0.0, 1.2), (-90, 0, -20), "rx"),
    "lowerback": ("root", (0.03, 2.0, -0.2), (0, 0, 0), "rx ry rz"),
    "upperback": ("lowerback", (0.03, 2.03, 0.01), (0, 0, 0), "rx ry rz"),
    "thorax": ("upperback", (0.02, 2.05, 0.07), (0, 0, 0), "rx ry rz"),
    "lowerneck": ("thorax", (0.0, 1.7, 0.2), (0, 0, 0), "rx ry rz"),
    "upperneck": ("lowerneck", (0.03, 1.7, -0.2), (0, 0, 0), "rx ry rz"),
    "head": ("upperneck", (0.0, 1.7, -0.1), (0, 0, 0), "rx ry rz"),
    "lclavicle": ("thorax", (3.4, 1.0, -0.4), (0, 0, 0), "ry rz"),
    "lhumerus": ("lclavicle", (5.1, 0.0, 0.0), (180, 30, 90), "rx ry rz"),
    "lradius": ("lhumerus", (3.6, 0.0, 0.0), (180, 30, 90), "rx"),
    "lwrist": ("lradius", (1.8, 0.0, 0.0), (180, 30, 90), "ry"),
    "lhand": ("lwrist", (0.5, 0.0, 0.0), (180, 30, 90), "rx rz"),
    "lfingers": ("lhand", (0.4, 0.0, 0.0), (180, 30, 90), "rx"),
    "lthumb": ("lwrist", (0.4, 0.0, 0.4), (-90, 45, 0), "rx rz"),
    "rclavicle": ("thorax", (-3.5, 0.8, -0.7), (0, 0, 0), "ry rz"),
    "rhumerus": ("rclavicle", (-5.4, 0.0, 0.0), (180, -30, -90), "rx ry rz"),
    "rradius": ("rhumerus", (-3.6, 0.0, 0.0), (180, -30, -90), "rx"),
    "rwrist": ("rradius", (-1.8, 0.0, 0.0), (180, -30, -90), "ry"),
    "rhand": ("rwrist", (-0.7, 0.0, 0.0), (180, -30, -90), "rx rz"),
    "rfingers": ("rhand", (-0.5, 0.0, 0.0), (180, -30, -90), "rx"),
    "rthumb": ("rwrist", (-0.5, 0.0, 0.5), (-90, -45, 0), "rx rz"),
}
_SIDES = {"l": "Left", "r": "Right"}
_NODES = {"femur": "UpLeg", "tibia": "Leg", "foot": "Foot", "toes": "ToeBase", "clavicle": "Shoulder", "humerus": "Arm",
          "radius": "ForeArm", "wrist": "Hand", "hand": "FingerBase", "fingers": "HandIndex1"}  # fmt: skip
_TRUNK = {"lowerback": "LowerBack", "upperback": "Spine", "thorax": "Spine1", "lowerneck": "Neck",
          "upperneck": "Neck1", "head": "Head"}  # fmt: skip


def node_name(bone: str) -> str:
    """The conversion's name of the joint where a bone begins."""
    if bone in _TRUNK:
        return _TRUNK[bone]
    if bone[1:] in ("hipjoint", "thumb"):
        return bone[0].upper() + {"hipjoint": "HipJoint", "thumb": "Thumb"}[bone[1:]]
    return _SIDES[bone[0]] + _NODES[bone[1:]]


class KnownMotion:
    """Random smooth angles of every degree of freedom."""

    def __init__(self, frames: int = 5, seed: int = 0, bones: dict = BONES) -> None:
        random = np.random.default_rng(seed)
        self.bones, self.frames = bones, frames
        drift = lambda size: np.cumsum(random.normal(0, 4, (frames, size)), 0) + random.normal(0, 15, size)  # noqa: E731
        self.root = np.concatenate([drift(3) / 10 + [3.0, 17.0, -8.0], drift(3)], 1)
        self.dof = {bone: drift(len(dof.split())) for bone, (_, _, _, dof) in bones.items() if dof}

    def local(self, bone: str, frame: int) -> Rotation:
        """C M C^-1, with M and C turned about fixed x, then y, then z."""
        angles = dict.fromkeys(("rx", "ry", "rz"), 0.0)
        if bone in self.dof:
            angles |= zip(self.bones[bone][3].split(), self.dof[bone][frame], strict=True)
        frame_axes = Rotation.from_euler("xyz", self.bones[bone][2], degrees=True)
        return frame_axes * Rotation.from_euler("xyz", list(angles.values()), degrees=True) * frame_axes.inv()

    @cache  # noqa: B019
    def ends(self) -> dict[str, np.ndarray]:
        """Where each bone ends: name -> (T, 3) units, y up; one bone and one frame after the other."""
        found = {bone: np.zeros((self.frames, 3)) for bone in ("root", *self.bones)}
        for frame in range(self.frames):
            turned = {"root": Rotation.from_euler("xyz", self.root[frame, 3:], degrees=True)}
            found["root"][frame] = self.root[frame, :3]
            for bone, (parent, vector, _, _) in self.bones.items():
                turned[bone] = turned[parent] * self.local(bone, frame)
                found[bone][frame] = found[parent][frame] + turned[bone].apply(vector)
        return found

    def joints(self) -> dict[str, np.ndarray]:
        """h36m17 joints as defined for CMU: name -> (T, 3) mm, z up, no floor taken off."""
        end = {bone: np.stack([p[:, 0], -p[:, 2], p[:, 1]], -1) * UNIT_MM for bone, p in self.ends().items()}
        sides = {"hip": "hipjoint", "knee": "femur", "ankle": "tibia", "shoulder": "clavicle", "elbow": "humerus",
                 "wrist": "wrist"}  # fmt: skip
        return {
            "pelvis": (end["lhipjoint"] + end["rhipjoint"]) / 2,
            "spine": end["lowerback"],
            "thorax": end["thorax"],
            "nose": (end["lowerneck"] + end["upperneck"]) / 2,
            "head": end["head"],
            **{f"{side}{joint}": end[f"{side}{bone}"] for joint, bone in sides.items() for side in "lr"},
        }

    def write_asf(self, path: Path) -> Path:
        text = "# AST/ASF file generated using VICON BodyLanguage\n:version 1.10\n:name VICON\n:units\n  mass 1.0\n"
        text += "  length 0.45\n  angle deg\n:documentation\n   .ast/.asf automatically generated\n:root\n"
        text += "   order TX TY TZ RX RY RZ\n   axis XYZ\n   position 0 0 0\n   orientation 0 0 0\n:bonedata\n"
        for number, (bone, (_, vector, axis, dof)) in enumerate(self.bones.items(), 1):
            length = np.linalg.norm(vector)
            direction = " ".join(f"{value:.17g}" for value in np.array(vector) / length)
            text += f"  begin\n     id {number}\n     name {bone}\n     direction {direction}\n"
            text += f"     length {length:.17g}\n     axis {' '.join(map(str, axis))}  XYZ\n"
            if dof:
                limits = "\n            ".join(["(-160.0 20.0)"] * len(dof.split()))
                text += f"    dof {dof}\n    limits {limits}\n"
            text += "  end\n"
        text += ":hierarchy\n  begin\n"
        for parent in ("root", *self.bones):
            children = [bone for bone, facts in self.bones.items() if facts[0] == parent]
            text += f"    {parent} {' '.join(children)}\n" if children else ""
        path.write_text(text + "  end\n")
        return path

    def write_amc(self, path: Path) -> Path:
        text = "#!OML:ASF F:\\VICON\\USERDATA\\01.ASF\n:FULLY-SPECIFIED\n:DEGREES\n"
        for frame in range(self.frames):
            text += f"{frame + 1}\n{_row('root', self.root[frame])}"
            text += "".join(_row(bone, values[frame]) for bone, values in self.dof.items())
        path.write_text(text)
        return path

    def write_bvh(self, path: Path, *, drop: bool, t_pose: bool = True, seconds: str = ".0083333") -> Path:
        """As converted for CMU; `drop` leaves out the bones that end where others branch off."""
        rows = [self._values(frame) for frame in range(self.frames)]
        if t_pose:
            rows.insert(0, [*rows[0][:3], *[0.0] * (len(rows[0]) - 3)])
        text = "HIERARCHY\nROOT Hips\n{\n\tOFFSET 0.00000 0.00000 0.00000\n"
        text += "\tCHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation \n"
        text += "".join(self._node(bone, 1, drop) for bone in self._children("root")) + "}\n"
        text += f"MOTION\nFrames: {len(rows)}\nFrame Time: {seconds}\n"
        path.write_text(text + "".join(" ".join(f"{value:.15g}" for value in row) + "\n" for row in rows))
        return path

    def _children(self, bone: str) -> list[str]:
        return [child for child, facts in self.bones.items() if facts[0] == bone]

    def _node(self, bone: str, depth: int, drop: bool) -> str:
        parent, vector = self.bones[bone][:2]
        dropped = parent == "root" or (drop and len(self._children(parent)) > 1)
        tab = "\t" * depth
        start = (0, 0, 0) if dropped else self.bones[parent][1]
        text = f"{tab}JOINT {node_name(bone)}\n{tab}{{\n{tab}\tOFFSET {_offset(start)}\n"
        text += f"{tab}\tCHANNELS 3 Zrotation Yrotation Xrotation\n"
        end = f"{tab}\tEnd Site\n{tab}\t{{\n{tab}\t\tOFFSET {_offset(vector)}\n{tab}\t}}\n"
        inside = "".join(self._node(child, depth + 1, drop) for child in self._children(bone))
        return f"{text}{inside or end}{tab}}}\n"

    def _values(self, frame: int) -> list[float]:
        """Channels in the file's order, branch by branch."""
        root = Rotation.from_euler("xyz", self.root[frame, 3:], degrees=True)
        turns = [root, *(self.local(bone, frame) for bone in self._walk("root"))]
        angles = [turn.as_euler("ZYX", degrees=True) for turn in turns]
        return [*self.root[frame, :3], *np.concatenate(angles)]

    def _walk(self, bone: str) -> list[str]:
        return [name for child in self._children(bone) for name in (child, *self._walk(child))]


def _row(bone: str, values: np.ndarray) -> str:
    return f"{bone} {' '.join(f'{value:.15g}' for value in values)}\n"


def _offset(vector: tuple[float, ...]) -> str:
    return " ".join(f"{value:.17g}" for value in vector)
