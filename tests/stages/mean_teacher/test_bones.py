"""The bones that a mean teacher's poses are held to: measured as for test-time optimisation, or said to be missing."""

from __future__ import annotations

import pytest
import torch

from poseda.anthropometry.reference import Reference
from poseda.engine.facts import SourceFacts
from poseda.engine.loop import LoopConfig
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.lifters import create_lifter
from poseda.stages import create_stage, pipeline
from poseda.stages.base import Setting
from poseda.stages.mean_teacher.bones import hold_bones, measure_bones
from poseda.stages.pipeline import AdaptConfig, adapt_lifter
from tests.anthropometry.floor import looking_down, on_floor
from tests.stages.test_pseudo_labels import Killed, KilledAt


@pytest.fixture(scope="module")
def scene(make_clips):
    """Source people, and target people of 0.9 times their size on a floor; three of each, seen for 550 frames."""
    far, near = looking_down(4, 1700.0, 5000.0, 0), looking_down(4, 1300.0, 3600.0, 1)
    source = on_floor(make_clips(sequences=160, frames=5, seed=5, bend=0.15, cameras=far), 1.0, far)
    return source, on_floor(make_clips(sequences=330, frames=5, seed=6, bend=0.15, cameras=near), 0.9, near)


def setting(scene, lifter, source=True, facts=None):
    return Setting(lifter, scene[0] if source else None, scene[1].unlabelled(), 10, 0, torch.Generator(), facts)


def test_bones_of_the_targets_people_are_theirs_whatever_the_lifter_says(scene, small_lifter):
    bones, remark = measure_bones(setting(scene, small_lifter()))
    assert remark == "bones of 3 of 3 people measured on their 2D, the height of 3 from the floor"
    truth = bone_lengths(scene[1].poses, scene[1].skeleton).mean(0)
    torch.testing.assert_close(bones.mean(0), truth, rtol=0.06, atol=0)
    assert float(bones.mean(0).sum() / truth.sum()) == pytest.approx(1, abs=0.025)


def test_without_source_clips_there_are_none_and_a_remark_says_so(scene, small_lifter):
    bones, remark = measure_bones(setting(scene, small_lifter(), source=False))
    assert bones is None and "neither source clips nor the card tell of people" in remark


def test_a_card_stands_for_source_clips(scene, small_lifter):
    """As far as its numbers are printed."""
    facts = SourceFacts(people=Reference.from_card(Reference.of(scene[0]).to_card(), scene[0].skeleton))
    bones, remark = measure_bones(setting(scene, small_lifter(), source=False, facts=facts))
    there, said = measure_bones(setting(scene, small_lifter()))
    assert remark == said
    torch.testing.assert_close(bones, there, rtol=0, atol=0.1)


def test_poses_are_held_to_them_in_all_frames_of_a_window(scene):
    clips = scene[1]
    windows = clips.poses[:40].view(8, 5, 17, 3)
    asked = 50 + 300 * torch.rand(8, 16, generator=torch.Generator().manual_seed(0))
    asked[3] = torch.nan
    held = hold_bones(windows, asked, clips.skeleton)
    lengths = bone_lengths(held, clips.skeleton)
    known = torch.arange(8) != 3
    torch.testing.assert_close(lengths[known], asked[known][:, None].expand(-1, 5, -1), rtol=1e-5, atol=1e-2)
    assert torch.equal(held[3], windows[3])


def test_the_stage_says_what_was_measured_and_learns_from_it(scene):
    source, target = scene
    ends = {}
    for lengths in ("lifted", "person"):
        said = []
        lifter = create_lifter("simplebaseline", seed=0, hidden=16, blocks=0)
        stage = create_stage("mean_teacher", lengths=lengths)
        config = AdaptConfig(steps=3, batch_size=32)
        adapt_lifter(lifter, source, target.unlabelled(), [stage], config, report=said.append)
        assert any("bones of 3 of 3 people" in remark for remark in said) == (lengths == "person")
        ends[lengths] = torch.cat([value.flatten() for value in stage.finish(lifter).state_dict().values()])
        assert bool(ends[lengths].isfinite().all())
    assert not torch.equal(*ends.values())


def test_a_killed_run_measures_the_same_bones_and_ends_with_the_same_weights(scene, tmp_path, monkeypatch):
    source, target = scene
    monkeypatch.setattr(pipeline, "LoopConfig", lambda **options: LoopConfig(**options, checkpoint_seconds=0.0))

    def run(folder, kill):
        lifter = create_lifter("simplebaseline", seed=0, hidden=16, blocks=0)
        stages = [create_stage("mean_teacher", lengths="person"), KilledAt(kill)]
        config = AdaptConfig(steps=6, batch_size=16, log_every=1)
        adapted = adapt_lifter(lifter, source, target.unlabelled(), stages, config, folder=folder)
        return adapted.state_dict(), stages[0].bones

    whole, bones = run(tmp_path / "a", 0)
    with pytest.raises(Killed):
        run(tmp_path / "b", 4)
    resumed, again = run(tmp_path / "b", 0)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert torch.equal(bones, again)


def test_an_unknown_kind_of_lengths_is_refused():
    with pytest.raises(ConfigError, match=r"mean_teacher\.lengths 'persons'\. Did you mean 'person'"):
        create_stage("mean_teacher", lengths="persons")
