"""Evaluation: a protocol worked out by hand, merging, averaging, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from poseda.errors import DataError, ShapeError
from poseda.metrics.accumulate import Evaluation, evaluate_poses, measure_poses
from poseda.metrics.protocols import get_protocol, with_options
from poseda.skeleton import get_skeleton

H36M = get_skeleton("h36m17")


def _poses(frames: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = 300 * torch.randn(frames, 17, 3, generator=generator, dtype=torch.float64)
    return target + 70 * torch.randn(target.shape, generator=generator, dtype=torch.float64), target


def _moved(joints: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """One random pose, and the same with the named joints moved by so many mm and another root position."""
    _, target = _poses(1)
    pred = target.clone()
    for joint, distance in joints.items():
        pred[0, H36M.index(joint), 0] += distance
    return pred + 1000.0, target


def test_official17_by_hand() -> None:
    """Wrist 170, knee 150, spine 340 mm off: MPJPE 660/17; 12 of 14 PCK joints right, the spine not asked."""
    pred, target = _moved({"lwrist": 170.0, "rknee": 150.0, "spine": 340.0})
    values = evaluate_poses(pred, target, skeleton=H36M, protocol="official17").values
    assert values["mpjpe"] == pytest.approx(660 / 17)
    assert values["pck"] == pytest.approx(100 * 12 / 14)
    assert values["auc"] == pytest.approx(100 * 12 * 30 / 31 / 14)  # twelve joints at 0 mm: 30 of 31 thresholds each


def test_poseaug16_by_hand() -> None:
    """16 joints with the root; the 3DHP head (nose) is not among them."""
    pred, target = _moved({"lwrist": 170.0, "spine": 32.0, "nose": 500.0})
    values = evaluate_poses(pred, target, skeleton=H36M, protocol="poseaug16").values
    assert values["mpjpe"] == pytest.approx(202 / 16)
    assert values["pck"] == pytest.approx(100 * 15 / 16)
    assert values["auc"] == pytest.approx(100 * (14 * 30 + 24) / 31 / 16)  # 32 mm is below 35, ..., 150: 24 thresholds


def test_leaving_the_root_out_raises_mpjpe_by_17_16_and_leaves_pa_mpjpe() -> None:
    pred, target = _poses()
    published = get_protocol("h36m17")
    with_root, without = (
        evaluate_poses(pred, target, skeleton=H36M, protocol=p).values
        for p in (published, with_options(published, root_in_mean=False))
    )
    assert without["mpjpe"] == pytest.approx(with_root["mpjpe"] * 17 / 16)
    assert without["pa_mpjpe"] == pytest.approx(with_root["pa_mpjpe"])


def test_a_wrong_root_joint_moves_every_other_joint() -> None:
    pred, target = _moved({"pelvis": 17.0})
    assert evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17").values["mpjpe"] == pytest.approx(16.0)


def test_joint_order_of_the_input_does_not_matter() -> None:
    pred, target = _poses()
    other = get_skeleton("3dhp17")
    order = [H36M.index(joint) for joint in other.joints]
    a = evaluate_poses(pred, target, skeleton=H36M, protocol="poseaug16").values
    b = evaluate_poses(pred[:, order], target[:, order], skeleton=other, protocol="poseaug16").values
    assert a == pytest.approx(b)


def test_frame_mean_and_action_mean_differ_as_they_should() -> None:
    """Errors of 10 mm over 6 frames and 40 mm over 2: 17.5 over frames, 25 over actions."""
    target = _poses(8)[1]
    pred = target.clone()
    pred[:6, 1:, 1] += 10.0
    pred[6:, 1:, 1] += 40.0
    rule = with_options(get_protocol("h36m17"), root_in_mean=False)
    result = evaluate_poses(
        pred,
        target,
        skeleton=H36M,
        protocol=rule,
        bounds=torch.tensor([0, 2, 6, 8]),
        actions=["walk", "walk", "sit"],
    )
    assert result.values["mpjpe"] == pytest.approx(17.5)
    assert result.values["mpjpe_action_mean"] == pytest.approx(25.0)
    assert result.per_action["walk"]["mpjpe"] == pytest.approx(10.0)
    assert result.per_action["sit"]["frames"] == 2
    assert result.values["mpjve"] == pytest.approx(0.0, abs=1e-9)


def test_per_joint_errors_name_their_joint() -> None:
    pred, target = _moved({"lwrist": 170.0})
    rows = evaluate_poses(pred, target, skeleton=H36M, protocol="official17").per_joint
    assert rows["lwrist"]["mpjpe"] == pytest.approx(170.0) and rows["lwrist"]["pck"] == 0.0
    assert rows["rwrist"]["mpjpe"] == pytest.approx(0.0) and rows["rwrist"]["pck"] == 100.0


def test_merged_parts_equal_the_whole_in_any_order() -> None:
    pred, target = _poses(30)
    bounds, actions = torch.tensor([0, 9, 10, 22, 30]), ["walk", "sit", "walk", "wave"]
    whole = evaluate_poses(pred, target, skeleton=H36M, protocol="official17", bounds=bounds, actions=actions)
    parts = [
        measure_poses(
            pred[int(bounds[i]) : int(bounds[j])],
            target[int(bounds[i]) : int(bounds[j])],
            skeleton=H36M,
            protocol="official17",
            bounds=bounds[i : j + 1] - bounds[i],
            actions=actions[i:j],
        )
        for i, j in ((0, 1), (1, 2), (2, 4))
    ]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = parts[order[0]].merge(parts[order[1]]).merge(parts[order[2]]).summarise()
        assert merged.values == pytest.approx(whole.values)
        assert merged.frames == whole.frames == 30
        assert {a: pytest.approx(row) for a, row in merged.per_action.items()} == whole.per_action


def test_results_of_different_protocols_do_not_merge() -> None:
    pred, target = _poses(3)
    a, b = (measure_poses(pred, target, skeleton=H36M, protocol=p) for p in ("official17", "h36m17"))
    with pytest.raises(DataError, match="official17 and h36m17"):
        a.merge(b)


def test_json_round_trip() -> None:
    pred, target = _poses(4)
    result = evaluate_poses(
        pred, target, skeleton=H36M, protocol="poseaug16", bounds=torch.tensor([0, 4]), actions=["walk"]
    )
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_a_record_that_is_no_evaluation_is_refused() -> None:
    with pytest.raises(DataError, match="not an evaluation"):
        Evaluation.from_json({"values": {}})


def test_velocity_is_left_out_where_sequences_are_unknown() -> None:
    pred, target = _poses(4)
    assert "mpjve" not in evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17").values


def test_the_first_frame_that_is_not_finite_is_named() -> None:
    pred, target = _poses(9)
    pred[4, 3, 1] = float("nan")
    pred[7, 0, 0] = float("inf")
    with pytest.raises(DataError, match=r"predicted pose of frame 4 is not finite \(2 such frames of 9\)"):
        evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17")
    with pytest.raises(DataError, match="3D label of frame 4"):
        evaluate_poses(target, pred, skeleton=H36M, protocol="h36m17")


def test_a_collapsed_prediction_is_named_and_not_scored() -> None:
    pred, target = _poses(5)
    pred[3] = 7.0
    with pytest.raises(DataError, match=r"All joints of frame 3 coincide .*\(1 such frames of 5\)"):
        evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17")


def test_bad_bounds_and_actions_are_refused() -> None:
    pred, target = _poses(9)
    with pytest.raises(ShapeError, match="increase from 0 to 9"):
        evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17", bounds=torch.tensor([0, 5]))
    with pytest.raises(ShapeError, match="2 sequences, but 1 actions"):
        evaluate_poses(pred, target, skeleton=H36M, protocol="h36m17", bounds=torch.tensor([0, 5, 9]), actions=["walk"])
