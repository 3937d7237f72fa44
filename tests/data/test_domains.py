"""Domains by name: real data first, the stand-in where they are missing, subjects never shared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.data import formats
from poseda.data.archive import save_archive
from poseda.data.clips import Provenance
from poseda.data.domains import Domain, DomainConfig, list_domains, load_domain, split_subjects
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.skeleton import Skeleton, get_skeleton

REAL = Provenance("mine", "real", "ours", "metric", "gt")


@pytest.fixture
def prepared(make_clips, tmp_path):
    """A folder data/h36m with two archives of real clips: subjects A B C to train, D E to test."""
    save_archive(tmp_path / "h36m" / "train.safetensors", make_clips(provenance=REAL))
    save_archive(tmp_path / "h36m" / "test.safetensors", make_clips(lengths=(6, 4), subjects="DE", provenance=REAL))
    return tmp_path


def test_prepared_data_are_used_before_the_stand_in(prepared):
    domain = load_domain(DomainConfig(name="h36m"), root=str(prepared), require="real")
    assert domain.train.provenance.kind == "real" and domain.train.num_frames == 12
    assert domain.test.subjects == ("D", "E") and domain.name == "h36m"


@pytest.mark.parametrize("name", ["h36m", "3dhp"])
def test_missing_real_data_are_an_error_when_required(tmp_path, name):
    with pytest.raises(MissingDataError) as error:
        load_domain(DomainConfig(name=name), root=str(tmp_path), require="real")
    message = str(error.value)
    for part in (
        f"{tmp_path}/{name}/train.safetensors",
        "licence",
        "poseda.prepare",
        "data.require=any",
        "rig=",
    ):
        assert part in message
    assert "\n" not in message


def test_half_a_data_set_is_an_error_and_not_the_stand_in(prepared):
    (prepared / "h36m" / "test.safetensors").unlink()
    with pytest.raises(DataError, match=r"no archive .*test\.safetensors"):
        load_domain(DomainConfig(name="h36m"), root=str(prepared))


def test_a_path_that_is_not_there_is_an_error_and_not_the_stand_in(tmp_path):
    with pytest.raises(MissingDataError, match=r"no archive"):
        load_domain(DomainConfig(name="h36m", path=str(tmp_path / "typo")), root=str(tmp_path))


def test_stand_in_archives_are_refused_when_real_data_are_required(make_clips, tmp_path):
    save_archive(tmp_path / "h36m" / "train.safetensors", make_clips())
    save_archive(tmp_path / "h36m" / "test.safetensors", make_clips(subjects="XYZ"))
    with pytest.raises(MissingDataError, match=r"stand-in data, and data.require=real refuses"):
        load_domain(DomainConfig(name="h36m"), root=str(tmp_path), require="real")


def test_subjects_are_taken_from_both_splits(prepared):
    config = DomainConfig(name="h36m", train_subjects=("A",), test_subjects=("B", "D"))
    domain = load_domain(config, root=str(prepared))
    assert domain.train.subjects == ("A",) and domain.test.subjects == ("B", "D")
    assert domain.test.num_frames == 3 + 6


def test_unknown_and_shared_subjects_are_errors(prepared, make_clips):
    with pytest.raises(ConfigError, match=r"no subject in h36m, 'Z'.*Known: A, B, C, D, E"):
        load_domain(DomainConfig(name="h36m", train_subjects=("Z",)), root=str(prepared))
    with pytest.raises(DataError, match=r"h36m: subject D is in train and in test"):
        load_domain(DomainConfig(name="h36m", train_subjects=("D",)), root=str(prepared))
    with pytest.raises(DataError, match=r"subject B, C is in train and in test"):
        Domain("x", make_clips(subjects="ABC"), make_clips(subjects="BCD"))


def test_one_archive_is_split_by_subject(make_clips, tmp_path):
    path = tmp_path / "one.safetensors"
    save_archive(path, make_clips())
    domain = load_domain(DomainConfig(name="archive", path=str(path)), root="")
    assert domain.train.subjects == ("A", "B") and domain.test.subjects == ("C",)
    chosen = load_domain(DomainConfig(name="archive", path=str(path), test_subjects=("A",)), root="")
    assert chosen.train.subjects == ("B", "C") and chosen.test.subjects == ("A",)
    with pytest.raises(ConfigError, match=r"no subject is left"):
        load_domain(DomainConfig(name="archive", path=str(path), test_subjects=("A", "B", "C")), root="")


def test_an_archive_folder_has_its_own_split(prepared):
    domain = load_domain(DomainConfig(name="archive", path=str(prepared / "h36m")), root="")
    assert domain.train.subjects == ("A", "B", "C") and domain.name == "h36m"


def test_archives_that_cannot_serve_are_named(make_clips, tmp_path):
    path = tmp_path / "one.safetensors"
    with pytest.raises(ConfigError, match=r"archive needs path="):
        load_domain(DomainConfig(name="archive"), root="")
    with pytest.raises(MissingDataError, match=r"one.safetensors"):
        load_domain(DomainConfig(name="archive", path=str(path)), root="")
    save_archive(path, make_clips().unlabelled())
    with pytest.raises(DataError, match=r"one.safetensors: has no poses"):
        load_domain(DomainConfig(name="archive", path=str(path)), root="")
    clips = make_clips()
    strange = Skeleton("mine", (*clips.skeleton.joints[:16], "tail"), clips.skeleton.parents)
    save_archive(path, replace(clips, skeleton=strange))
    with pytest.raises(DataError, match=r"cannot be made from mine: no rwrist"):
        load_domain(DomainConfig(name="archive", path=str(path)), root="")


def test_the_skeleton_is_the_one_asked_for(prepared):
    domain = load_domain(DomainConfig(name="h36m"), root=str(prepared), skeleton="h36m16")
    assert domain.train.skeleton == get_skeleton("h36m16") and domain.test.poses.shape[1] == 16
    with pytest.raises(ConfigError, match=r"skeleton 'h36m18'"):
        load_domain(DomainConfig(name="h36m"), root=str(prepared), skeleton="h36m18")


def test_every_and_max_frames_thin_both_splits(prepared):
    domain = load_domain(DomainConfig(name="h36m", every=2, max_frames=4), root=str(prepared))
    assert (domain.train.num_frames, domain.test.num_frames) == (4, 4)
    assert domain.train.fps == 25.0
    with pytest.raises(ConfigError, match=r"max_frames=-1"):
        load_domain(DomainConfig(name="h36m", max_frames=-1), root=str(prepared))
    with pytest.raises(DataError, match=r"every=0"):
        load_domain(DomainConfig(name="h36m", every=0), root=str(prepared))


def test_noise_touches_the_keypoints_alone_and_is_seeded(prepared):
    clean = load_domain(DomainConfig(name="h36m"), root=str(prepared))
    noisy = load_domain(DomainConfig(name="h36m", noise="cpn"), root=str(prepared))
    again = load_domain(DomainConfig(name="h36m", noise="cpn"), root=str(prepared))
    assert torch.equal(noisy.train.poses, clean.train.poses)
    assert not torch.equal(noisy.train.keypoints, clean.train.keypoints)
    assert torch.equal(noisy.test.keypoints, again.test.keypoints)
    assert noisy.test.provenance.keypoints == "gt+cpn noise"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DomainConfig(name="3dph"), "no domain '3dph'. Did you mean '3dhp'"),
        (DomainConfig(name="h36m", rig="h36m"), "rig has no meaning for h36m"),
        (DomainConfig(name="3dhp", spread_mm=1.0), "spread_mm has no meaning for 3dhp"),
        (DomainConfig(name="motion"), "motion needs path="),
        (DomainConfig(name="motion", path="x.npz"), "motion needs rig=.*3dhp_vnect8.*h36m"),
        (DomainConfig(name="motion", path="x.npz", rig="h36n"), "no camera rig 'h36n'"),
    ],
)
def test_wrong_options_are_config_errors(config, message):
    with pytest.raises(ConfigError, match=message):
        load_domain(config, root="")
    with pytest.raises(ConfigError, match=r"data.require"):
        load_domain(replace(config, name="h36m"), root="", require="reel")


def test_a_new_format_is_one_file(tmp_path, monkeypatch, make_clips):
    (tmp_path / "myset.py").write_text(
        "from poseda.data.domains import read_prepared\n"
        "USES = ()\nSTANDIN = None\n"
        "def load(config, root):\n    return read_prepared(root, 'myset')\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    save_archive(tmp_path / "train.safetensors", make_clips())
    save_archive(tmp_path / "test.safetensors", make_clips(subjects="XYZ"))
    assert set(list_domains()) == {"3dhp", "archive", "h36m", "keypoints", "motion", "myset"}
    assert load_domain(DomainConfig(name="myset"), root=str(tmp_path)).test.subjects == ("X", "Y", "Z")


@pytest.mark.parametrize(
    ("subjects", "held_out"),
    [("bk bd dg mm tr", "mm tr"), ("01 03 05 06 07 08 09 10 11 13 14 16 35", "14 16 35"), ("a b", "b"),
     ("a b c", "c"), ("a b c d", "c d")],
)  # fmt: skip
def test_the_last_fifth_of_the_subjects_is_held_out(subjects, held_out):
    train, test = split_subjects(subjects.split(), "file")
    assert " ".join(test) == held_out and sorted(train + test) == sorted(subjects.split())


def test_one_subject_cannot_be_split():
    with pytest.raises(DataError, match=r"one subject only"):
        split_subjects(["a"], "file")


def test_real_motion_splits_by_subject_and_records_it(motion_folder):
    config = DomainConfig(name="motion", path=str(motion_folder / "hdm05_17.npz"), rig="3dhp_vnect8")
    domain = load_domain(config, root="", require="real")
    assert domain.train.subjects == ("bd", "bk", "dg") and domain.test.subjects == ("mm", "tr")
    assert domain.name == "hdm05_17-3dhp_vnect8"
    assert "train bd bk dg, test mm tr" in domain.train.provenance.notes
    with pytest.raises(ConfigError, match=r"'zz'.*Known: bd, bk, dg, mm, tr"):
        load_domain(replace(config, train_subjects=("zz",)), root="")
