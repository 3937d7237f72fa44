"""Protocols: joints, options, the printed line."""

from __future__ import annotations

import pytest

from poseda.errors import ConfigError
from poseda.metrics.protocols import PROTOCOLS, Protocol, get_protocol, with_options


def test_official17_is_3dhps_evaluation() -> None:
    rule = get_protocol("official17")
    assert len(rule.mean_joints) == 17
    # Joints 14, 15, 16 of 3DHP's order (pelvis, spine, head) take no part in PCK and AUC.
    assert sorted(rule.pck_indices) == list(range(14))
    assert rule.auc_thresholds == tuple(range(0, 151, 5))


def test_poseaug16_counts_the_root_everywhere_and_flips() -> None:
    rule = get_protocol("poseaug16")
    assert len(rule.mean_joints) == len(rule.pck_indices) == 16
    assert rule.joint_set.root in rule.pck_indices and rule.flip


@pytest.mark.parametrize("name", PROTOCOLS)
def test_leaving_the_root_out_drops_one_joint_of_the_mean(name: str) -> None:
    rule = with_options(get_protocol(name), root_in_mean=False)
    assert set(get_protocol(name).mean_joints) - set(rule.mean_joints) == {rule.joint_set.root}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_printed_line_is_one_line_with_name_joints_and_label_scale(name: str) -> None:
    line = get_protocol(name).describe()
    assert "\n" not in line and "altered" not in line
    assert name in line and get_protocol(name).label_scale in line and get_protocol(name).skeleton in line


def test_an_altered_protocol_says_so() -> None:
    line = with_options(get_protocol("official17"), label_scale="metric", flip=True).describe()
    assert "official17 (altered: flip=True, label_scale=metric)" in line
    assert with_options(get_protocol("official17"), flip=False) == get_protocol("official17")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'official17'"):
        get_protocol("oficial17")
    with pytest.raises(ConfigError, match="Did you mean 'metric'"):
        with_options(get_protocol("h36m17"), label_scale="metrics")
    with pytest.raises(ConfigError, match="Did you mean 'head'"):
        Protocol("own", "h36m17", True, ("heead",), flip=False, label_scale="metric")


def test_thresholds_must_increase() -> None:
    with pytest.raises(ConfigError, match="must increase"):
        Protocol("own", "h36m17", True, ("head",), flip=False, label_scale="metric", auc_thresholds=(10.0, 5.0))
