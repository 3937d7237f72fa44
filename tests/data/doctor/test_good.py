"""Good data: nothing is reported, whatever the rig, the people and the noise, and the numbers are right."""

from __future__ import annotations

import pytest
import torch

from poseda.data.doctor import examine, examine_raw
from poseda.data.motion import read_motion
from poseda.data.noise import add_detector_noise
from poseda.errors import DataError
from tests.data.doctor.planted import Data


def codes(report):
    return [finding.code for finding in report.findings]


def noisy(clips, level):
    return clips if level == "none" else add_detector_noise(clips, level, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("level", ["none", "cpn", "10"])
@pytest.mark.parametrize("domain", ["source_domain", "target_domain"])
def test_nothing_is_wrong_with_the_standins(domain, level, request):
    split = request.getfixturevalue(domain)
    for clips in (split.train, split.test):
        report = examine(noisy(clips, level))
        assert codes(report) == [], report.text()
        assert codes(examine(noisy(clips, level).unlabelled())) == []


@pytest.mark.parametrize("rig", ["h36m", "3dhp_train", "3dhp_test"])
@pytest.mark.parametrize(("file", "people"), [("cmu17.npz", ["05", "09", "16"]), ("hdm05_17.npz", ["bd", "mm", "tr"])])
def test_nothing_is_wrong_with_real_motion(motion_folder, file, people, rig):
    clips = read_motion(motion_folder / file, rig, subjects=people).limit(3000)
    report = examine(noisy(clips, "cpn"))
    assert codes(report) == [], report.text()


def test_the_numbers_are_those_of_the_clips(tiny_source):
    n = examine(tiny_source).numbers
    assert (n.frames, n.looked_at, n.sequences) == (2000, 2000, len(tiny_source.sequences))
    assert sum(n.subjects.values()) == 2000 and set(n.subjects) == set(tiny_source.subjects)
    assert n.fps == tiny_source.fps and n.skeleton == "h36m17" and n.label_scale == "metric"
    assert n.image_sizes == ((1000, 1000), (1000, 1002)) and n.outside == 0.0
    assert n.focal[0] == pytest.approx(1143.5, abs=2) and 46 < n.view[0] < 48
    assert n.reprojection.high < 0.01 and n.reprojection.median_400 < 0.01
    assert all(scale == pytest.approx(1.0, abs=1e-3) for scale in n.scale.values())
    assert n.bones["thigh"].ratio == pytest.approx(1.0, abs=0.02) and n.bones["thigh"].spread < 0.01
    thigh = (tiny_source.poses[:, 2] - tiny_source.poses[:, 1]).norm(dim=-1).median()
    assert n.bones["thigh"].length == pytest.approx(float(thigh), rel=0.05)
    assert n.upright > 0.95 and n.up[1] < -0.8 and 4000 < n.distance[1] < 6500
    assert n.low[0] >= float(tiny_source.keypoints[..., 0].min())


def test_a_report_of_good_data_fits_on_a_screen(tiny_source):
    lines = examine(tiny_source).text().splitlines()
    assert len(lines) <= 25 and lines[-1] == "nothing looks wrong"
    assert max(len(line) for line in lines) <= 120


def test_recordings_give_the_numbers_of_the_clips(tiny_target):
    raw = examine_raw(Data(tiny_target).recordings(), tiny_target.skeleton, name="3dhp")
    clips = examine(tiny_target)
    assert raw.numbers.reprojection.median_400 == pytest.approx(clips.numbers.reprojection.median_400, abs=1e-3)
    assert raw.numbers.frames == clips.numbers.frames and raw.numbers.missing == clips.numbers.missing
    assert raw.numbers.bones["thigh"] == clips.numbers.bones["thigh"]
    assert raw.findings == ()


def test_noise_is_measured_at_a_400_px_box(tiny_source):
    r = examine(noisy(tiny_source, "cpn")).numbers.reprojection
    assert 2.5 < r.median_400 < 5.4 and r.high_400 > 10


def test_missing_joints_are_counted_and_do_not_count(tiny_source):
    data = Data(tiny_source)
    data.confidence[::2, 13] = 0.0
    data.keypoints[::2, 13] = float("nan")
    report = examine_raw(data.recordings(), tiny_source.skeleton, name="h36m")
    assert report.numbers.missing["lwrist"] == 0.5 and report.numbers.missing["rwrist"] == 0.0
    assert codes(report) == []


def test_universal_labels_that_say_so_are_no_fault(tiny_target):
    data = Data(tiny_target)
    root = data.poses[:, :1]
    data.poses = root + 0.8 * (data.poses - root)
    report = examine_raw(data.recordings(), tiny_target.skeleton, name="3dhp", label_scale="universal")
    assert codes(report) == [] and "universal; 3D is 0.800" in report.text()


def test_frames_without_finite_3d_are_left_out_and_said(tiny_source):
    data = Data(tiny_source)
    data.poses[5:9, 2] = float("nan")
    report = examine_raw(data.recordings(), tiny_source.skeleton, name="h36m")
    assert codes(report) == ["not-finite"] and "4 of 2000" in report.findings[0].evidence


def test_nothing_to_look_at_is_an_error(tiny_source):
    with pytest.raises(DataError, match="empty: there is no frame"):
        examine_raw([], tiny_source.skeleton, name="empty")
    data = Data(tiny_source)
    data.poses[:] = float("nan")
    with pytest.raises(DataError, match="every 3D pose"):
        examine_raw(data.recordings(), tiny_source.skeleton, name="h36m")
    data = Data(tiny_source)
    data.confidence[:] = 0.0
    with pytest.raises(DataError, match="no 2D keypoint"):
        examine_raw(data.recordings(), tiny_source.skeleton, name="h36m")
