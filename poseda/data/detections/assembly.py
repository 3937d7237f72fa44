"""From what a detector's file holds to clips: confidences, joints, tracks, gaps, camera; and counts of what is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from poseda.data.clips import Provenance, Sequence, UnlabelledClips
from poseda.data.detections.cameras import refuse_outside, video_cameras
from poseda.data.detections.confidences import confidences, refuse_normalised
from poseda.data.detections.found import Floats, Found, Video
from poseda.data.detections.layouts import Layout, choose_layout, convert
from poseda.data.detections.options import DetectionOptions
from poseda.data.detections.sequences import FILLED, Detected, Pieces, cut
from poseda.data.detections.tracking import starts_of, track, usable_numbers
from poseda.errors import DataError, choose
from poseda.files.opening import printable
from poseda.skeleton import Skeleton

LEAST_VISIBLE = 4
"""Joints of the asked joint set that must be visible in a frame."""
DEFAULT_FPS = 30.0


@dataclass(frozen=True, eq=False)
class Detections:
    """Clips of detected people, and what must be said about them."""

    clips: UnlabelledClips
    """One sequence a person without a long gap."""
    recognised: str
    """Format, joint layout, tracks and frames of the file, in one sentence."""
    remarks: tuple[str, ...]
    """What was assumed, left out and filled, with counts; one sentence each."""


def assemble(found: Found, options: DetectionOptions, skeleton: Skeleton, path: Path) -> Detections:
    """Clips of what was found in `path`. Raises DataError and ConfigError as read_detections does."""
    where = str(path)
    videos = tuple(replace(video, name=printable(video.name or path.stem, 60)) for video in found.videos)
    cameras, camera_remarks = video_cameras(videos, options, where)
    fps, fps_remarks = _frame_rate(videos, options, where)
    layout = choose_layout(found, options.layout, where)
    entries, remarks = _entries(found, layout, options, skeleton, where)
    entries, numbered, track_remarks = _tracked(entries, options, where)
    recognised = f"{found.form}, {layout.title}: {_extent(entries, found.frames)} ({numbered})"
    unique = entries.sort()
    pieces = cut(_chosen(unique, options.person), options.max_gap, options.min_frames)
    _refuse_nothing(pieces, options, where)
    refuse_outside(pieces, cameras, where)
    notes = "; ".join((*fps_remarks, *camera_remarks))
    clips = UnlabelledClips(
        keypoints=torch.from_numpy(pieces.points).float(),
        confidence=torch.from_numpy(pieces.confidence).float(),
        bounds=torch.from_numpy(pieces.bounds),
        sequences=_sequences(pieces, videos),
        cameras=cameras,
        skeleton=skeleton,
        fps=fps,
        provenance=Provenance(printable(path.stem, 60), "real", "the user's own", "metric", found.form, notes),
    )
    counts = _counts(pieces, len(entries.frame) - len(unique.frame), options.max_gap)
    return Detections(clips, recognised, (*remarks, *track_remarks, *counts, *fps_remarks, *camera_remarks))


def _entries(
    found: Found, layout: Layout, options: DetectionOptions, skeleton: Skeleton, where: str
) -> tuple[Detected, tuple[str, ...]]:
    """People with enough visible joints of the asked joint set, and what was left out."""
    points, scores = found.keypoints[:, layout.columns], found.scores[:, layout.columns]
    sure = confidences(points, scores, options.min_confidence)
    refuse_normalised(points, sure.values, where)
    made, confidence = convert(points, sure.values, layout.skeleton, skeleton, options.construction)
    enough = (confidence > 0).sum(-1) >= LEAST_VISIBLE
    if not enough.any():
        raise DataError(f"{where}: {_nobody(points, scores, options)}")
    few, total = int((~enough).sum()), _number(scores.size)
    remarks = [] if found.scored else ["the file holds no scores: every keypoint in it counts as sure"]
    remarks += sure.remarks
    if sure.low:
        remarks.append(f"{_number(sure.low)} of {total} keypoints below {options.min_confidence:g} left out")
    if sure.broken:
        remarks.append(f"{_number(sure.broken)} of {total} keypoints are no place in an image and left out")
    if few:
        remarks.append(f"{_plural(few, 'detection')} with fewer than {LEAST_VISIBLE} visible joints left out")
    entries = Detected(made, confidence, found.video, found.frame, found.person)
    return entries.take(np.flatnonzero(enough)), tuple(remarks)


def _nobody(points: Floats, scores: Floats, options: DetectionOptions) -> str:
    """Why nobody has enough joints, and what helps: a lower min_confidence, or nothing but another file."""
    said = f"nobody has {LEAST_VISIBLE} joints at min_confidence={options.min_confidence:g} or above"
    anyhow = confidences(points, scores, 0.0)
    if ((anyhow.values > 0).sum(-1) >= LEAST_VISIBLE).any():
        return f"{said}; lower it."
    return (
        f"{said}, nor at any: of {_number(scores.size)} keypoints {_number(anyhow.broken)} are no place in an image "
        f"(not finite, or too far away), and {_number(anyhow.low)} have a confidence of 0 or less."
    )


def _tracked(entries: Detected, options: DetectionOptions, where: str) -> tuple[Detected, str, tuple[str, ...]]:
    """Entries with a person's number each, where the numbers are from, and why not the file's."""
    usable, said = usable_numbers(entries.person, entries.video, entries.frame)
    if usable:
        return entries, "numbered by the detector", ()
    person = track(entries.points, entries.confidence, entries.video, entries.frame, options.max_gap, where)
    return replace(entries, person=person), "linked by nearness", (said,) if said else ()


def _extent(entries: Detected, frames: int) -> str:
    order = np.lexsort((entries.frame, entries.video))
    in_frame = np.diff(np.flatnonzero(np.append(starts_of(entries.video[order], entries.frame[order]), True)))
    order = np.lexsort((entries.person, entries.video))
    tracks = int(starts_of(entries.video[order], entries.person[order]).sum())
    people = int(in_frame.max())
    said = "one person in a frame" if people == 1 else f"up to {people} people in a frame"
    return f"{_plural(frames, 'frame')}, {said}, {_plural(tracks, 'track')}"


def _chosen(entries: Detected, person: str) -> Detected:
    """The people asked for, of sorted entries. Raises ConfigError with the numbers that there are."""
    if person == "all":
        return entries
    if person == "longest":
        tracks = starts_of(entries.video, entries.person).cumsum() - 1
        return entries.take(np.flatnonzero(tracks == np.bincount(tracks).argmax()))
    numbers = [str(number) for number in np.unique(entries.person).tolist()]
    number = int(choose(person, numbers, "person"))
    return entries.take(np.flatnonzero(entries.person == number))


def _refuse_nothing(pieces: Pieces, options: DetectionOptions, where: str) -> None:
    if not len(pieces.video):
        longest = f"the longest has {max(pieces.short)}"
        raise DataError(f"{where}: no sequence has min_frames={options.min_frames} frames, {longest}; lower it.")


def _frame_rate(videos: SequenceOf[Video], options: DetectionOptions, where: str) -> tuple[float, tuple[str, ...]]:
    said = sorted({video.fps for video in videos if video.fps})
    if options.fps or len(said) == 1:
        return options.fps or said[0], ()
    if said:
        raise DataError(f"{where}: videos at {said[0]:g} to {said[-1]:g} frames a second; one file must hold one rate.")
    return DEFAULT_FPS, (f"frame rate unknown: taken as {DEFAULT_FPS:g} frames a second (fps= says better)",)


def _sequences(pieces: Pieces, videos: SequenceOf[Video]) -> tuple[Sequence, ...]:
    """Each piece with its person; frames are in the name where a person has several pieces."""
    keys = list(zip(pieces.video.tolist(), pieces.person.tolist(), strict=True))
    times = Counter(keys)
    lasts = pieces.first + np.diff(pieces.bounds) - 1
    made = []
    for (video, person), first, last in zip(keys, pieces.first.tolist(), lasts.tolist(), strict=True):
        subject = f"{videos[video].name}/person{person}"
        part = f"/{first}-{last}" if times[video, person] > 1 else ""
        made.append(Sequence(subject + part, subject, "", video))
    return tuple(made)


def _counts(pieces: Pieces, duplicates: int, max_gap: int) -> list[str]:
    said = []
    if duplicates:
        said.append(f"{_plural(duplicates, 'second detection')} of a person in one frame left out")
    if pieces.gaps:
        frames = f"{_plural(pieces.filled, 'frame')}, with {FILLED:g} of the confidence"
        said.append(f"{_plural(pieces.gaps, 'gap')} of up to {_plural(max_gap, 'frame')} filled ({frames})")
    if pieces.cuts:
        said.append(f"{_plural(pieces.cuts, 'longer gap')} cut a track")
    if pieces.short:
        lengths = f"{pieces.short[0]}" if len(set(pieces.short)) == 1 else f"{min(pieces.short)} to {max(pieces.short)}"
        said.append(f"{_plural(len(pieces.short), 'sequence')} of {lengths} frames left out as too short")
    return said


def _number(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _plural(count: int, noun: str) -> str:
    return f"{_number(count)} {noun}{'' if count == 1 else 's'}"
