"""Devices by name, and a clear line where one is not there."""

import pytest
import torch

from poseda.engine.runtime import resolve_device
from poseda.errors import ConfigError


def test_auto_is_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")


def test_cpu_is_cpu():
    assert resolve_device("cpu") == torch.device("cpu")


def test_absent_gpu_is_said_with_what_works(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device=cuda was asked for.*device=auto works"):
        resolve_device("cuda")


def test_gpu_number_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="device=cuda:2 was asked for, but there are only 2"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match="Known: auto, cpu, cuda"):
        resolve_device(name)
