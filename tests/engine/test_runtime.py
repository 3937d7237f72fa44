"""Devices by name, and a clear line where one is not there."""

import pytest
import torch

from poseda.engine.runtime import resolve_device, restore_generator
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


def test_a_generator_goes_on_where_it_was_and_not_where_another_kind_of_device_was():
    first, second = torch.Generator().manual_seed(3), torch.Generator()
    torch.rand(5, generator=first)
    restore_generator(second, first.get_state())
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))
    of_a_gpu = torch.zeros(16, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"another kind of device than cpu.*resume=never"):
        restore_generator(second, of_a_gpu)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match="Known: auto, cpu, cuda"):
        resolve_device(name)
