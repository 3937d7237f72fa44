"""Each known fault, planted in good data: it is found, named, and nothing else is claimed."""

from __future__ import annotations

import pytest
import torch

from poseda.data.doctor import examine, examine_raw
from poseda.data.noise import add_detector_noise
from tests.data.doctor import planted as p

BOTH, LEGS, ARMS = list(p.H36M.mirror), ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
SWAPS = [("lelbow", "lwrist"), ("rknee", "rankle"), ("nose", "head"), ("lwrist", "rwrist"), ("spine", "thorax")]


def every_third(clips):
    """A third of the sequences, about 700 frames."""
    wanted = {sequence.name for sequence in clips.sequences[::3]}
    return clips.select(lambda sequence: sequence.name in wanted)


@pytest.fixture(scope="session")
def source(tiny_source):
    return every_third(tiny_source)


@pytest.fixture(scope="session")
def target(tiny_target):
    return every_third(tiny_target)


@pytest.fixture(scope="session")
def noisy_source(source):
    return add_detector_noise(source, "cpn", torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def noisy_target(target):
    return add_detector_noise(target, "10", torch.Generator().manual_seed(1))


CLIPS = pytest.mark.parametrize("clips", ["target", "noisy_source"])
NOISY = pytest.mark.parametrize("clips", ["noisy_source"])


def report_of(clips, fault, labelled=True):
    data = p.Data(clips)
    fault(data)
    data.labelled = labelled
    return examine_raw(data.recordings(), clips.skeleton, name="planted")


def only(report, code):
    """The one finding, of that code."""
    assert [finding.code for finding in report.findings] == [code], report.text()
    finding = report.findings[0]
    assert finding.what in report.text() and finding.remedy in report.text()
    return finding


@NOISY
@pytest.mark.parametrize("pair", SWAPS, ids="/".join)
def test_two_joints_exchanged(clips, pair, request):
    finding = only(report_of(request.getfixturevalue(clips), p.reorder(p.exchanged(pair))), "joint-order")
    assert finding.severity == "error"
    assert f"{pair[0]} at the place of {pair[1]}" in finding.cause


@CLIPS
@pytest.mark.parametrize("what", ["both", "2D", "3D"])
def test_the_order_of_another_skeleton_is_named(clips, what, request):
    finding = only(report_of(request.getfixturevalue(clips), p.reorder(p.in_3dhp_order(), what)), "joint-order")
    assert "the order of 3dhp17" in finding.cause


@NOISY
@pytest.mark.parametrize("what", ["both", "2D", "3D"])
def test_legs_for_arms(clips, what, request):
    finding = only(report_of(request.getfixturevalue(clips), p.reorder(p.limbs(), what)), "joint-order")
    assert "arms where legs should be" in finding.cause


@CLIPS
def test_coco_keypoints_declared_as_h36m(clips, request):
    for labelled in (True, False):
        finding = only(report_of(request.getfixturevalue(clips), p.coco_2d, labelled), "joint-order")
        assert "the order of coco17" in finding.cause


@NOISY
@pytest.mark.parametrize(
    ("parts", "said"), [(LEGS, "the legs (hips"), (ARMS, "the arms (shoulders"), (("hip",), "the hips alone")]
)
def test_left_first_limbs(clips, parts, said, request):
    clips = request.getfixturevalue(clips)
    assert said in only(report_of(clips, p.reorder(p.mirrored(*parts))), "limbs-crossed").cause
    only(report_of(clips, p.reorder(p.mirrored(*parts)), labelled=False), "limbs-crossed")


@NOISY
def test_left_first_legs_in_one_of_the_two(clips, request):
    clips = request.getfixturevalue(clips)
    assert "the legs" in only(report_of(clips, p.reorder(p.mirrored(*LEGS), "3D")), "limbs-crossed").cause
    only2d = only(report_of(clips, p.reorder(p.mirrored(*LEGS), "2D")), "joint-order")
    assert "left and right of the legs" in only2d.cause


@pytest.mark.parametrize("order", [p.in_3dhp_order(), p.limbs()])
def test_a_wrong_order_is_seen_in_2d_alone(noisy_source, order):
    only(report_of(noisy_source, p.reorder(order), labelled=False), "joint-order")


@CLIPS
@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (0.1, "centimetres")])
def test_other_units(clips, factor, unit, request):
    finding = only(report_of(request.getfixturevalue(clips), p.scale_poses(factor)), "unit")
    assert f"in {unit}" in finding.what and f"{1 / factor:.0f}" in finding.remedy


def test_units_do_not_hide_another_fault(noisy_source):
    def both(data):
        p.scale_poses(1e-3)(data)
        p.universal(0.9)(data)

    report = report_of(noisy_source, both)
    assert [finding.code for finding in report.findings] == ["unit", "label-scale"]


@CLIPS
@pytest.mark.parametrize("known", [True, False], ids=["extrinsics", "none"])
@pytest.mark.parametrize("up", ["z", "y"])
def test_world_coordinates(clips, up, known, request):
    finding = only(report_of(request.getfixturevalue(clips), p.world(known, up)), "frame")
    assert "world" in finding.what and f"+{up}" in finding.evidence


@NOISY
@pytest.mark.parametrize(
    ("rows", "said"),
    [(((1, 0, 0), (0, -1, 0), (0, 0, -1)), "(x, -y, -z)"), (((1, 0, 0), (0, 0, 1), (0, -1, 0)), "(x, -z, y)")],
)
def test_other_axes(clips, rows, said, request):
    assert said in only(report_of(request.getfixturevalue(clips), p.axes(*rows)), "frame").remedy


@CLIPS
def test_left_and_right_exchanged(clips, request):
    clips = request.getfixturevalue(clips)
    only(report_of(clips, p.reorder(BOTH)), "left-right")
    for what in ("2D", "3D"):
        assert f"of the {what} are" in only(report_of(clips, p.reorder(BOTH, what)), "left-right").what
        assert f"the {what} are mirrored" in only(report_of(clips, p.mirror_x(what)), "left-right").what


@NOISY
def test_y_upwards(clips, request):
    clips = request.getfixturevalue(clips)
    for what in ("2D", "3D"):
        assert f"the {what} stand" in only(report_of(clips, p.flip_y(what)), "y-flipped").what
    assert "y-flipped" in [finding.code for finding in report_of(clips, p.flip_y("both")).findings]
    only(report_of(clips, p.flip_y("2D"), labelled=False), "y-flipped")


@CLIPS
@pytest.mark.parametrize("factor", [0.93, 0.8, 1.08])
def test_universal_labels(clips, factor, request):
    report = report_of(request.getfixturevalue(clips), p.universal(factor))
    assert "universal" in only(report, "label-scale").what
    assert all(scale == pytest.approx(factor, abs=0.015) for scale in report.numbers.scale.values())


def test_universal_labels_of_some_people(noisy_source):
    finding = only(report_of(noisy_source, p.universal({"S1": 0.94, "S6": 1.07})), "label-scale")
    assert "S1 0.9" in finding.evidence and "S6 1.0" in finding.evidence and "S5" not in finding.evidence


@NOISY
def test_keypoints_already_normalised(clips, request):
    for labelled in (True, False):
        only(report_of(request.getfixturevalue(clips), p.normalised, labelled), "pixels")


def test_portrait_images(source):
    assert report_of(source, p.portrait).findings == ()
    assert "wrong side" in only(report_of(source, p.wrong_side), "normalisation").what
    assert "different sides" in only(report_of(source, p.each_its_side), "normalisation").what
    assert "exchanged" in only(report_of(source, p.sides_exchanged), "image-size").what
    assert "exchanged" in only(report_of(source, p.sides_exchanged, labelled=False), "image-size").what


@NOISY
def test_images_of_another_size(clips, request):
    clips = request.getfixturevalue(clips)
    assert "resized by 0.5" in only(report_of(clips, p.resized), "image-size").cause
    assert "1.25 times too long" in only(report_of(clips, p.wrong_focal), "image-size").cause


@CLIPS
def test_cameras_mixed_up(clips, request):
    finding = only(report_of(request.getfixturevalue(clips), p.cameras_mixed), "cameras")
    assert "0 -> 1, 1 -> 0" in finding.evidence


@pytest.mark.parametrize("clips", ["target", "noisy_target"])
@pytest.mark.parametrize(("frames", "every"), [(2, 1), (-1, 1), (2, 4)])
def test_2d_and_3d_out_of_step(clips, frames, every, request):
    finding = only(report_of(request.getfixturevalue(clips), p.lag(frames, every)), "lag")
    assert f"{abs(frames)} frame" in finding.what and ("ahead" in finding.what) == (frames > 0)


def test_poses_without_a_place(noisy_source):
    only(report_of(noisy_source, p.root_relative), "root-relative")
    only(report_of(noisy_source, p.image_space), "image-space")


def test_implausible_frame_rate(noisy_source):
    finding = only(report_of(noisy_source, p.too_fast), "fps")
    assert finding.severity == "warning"


def test_what_nothing_explains_is_said_to_be_so(noisy_source):
    assert "do not project" in only(report_of(noisy_source, p.other_people), "disagreement").what


def test_absent_joints_are_a_hint(noisy_source):
    assert only(report_of(noisy_source, p.some_missing), "missing").severity == "hint"


def test_the_worst_comes_first(noisy_source):
    def several(data):
        p.some_missing(data)
        p.too_fast(data)
        p.universal(0.9)(data)

    report = report_of(noisy_source, several)
    assert [finding.severity for finding in report.findings] == ["error", "warning", "hint"]
    assert "3 things look wrong" in report.text()


def test_an_archive_with_a_fault(noisy_target):
    order = p.exchanged(("lelbow", "lwrist"))
    wrong = noisy_target._derive(poses=noisy_target.poses[:, order], keypoints=noisy_target.keypoints[:, order])
    only(examine(wrong), "joint-order")
