"""Devices: moving a model, and errors for devices that are not here."""

import pytest
import torch
from torch import nn

import saywhy
from saywhy.errors import InputError
from saywhy.models import load

ABSENT = "cuda:7" if torch.cuda.is_available() else "cuda"


def test_load_moves_the_network() -> None:
    model = load(nn.Conv2d(3, 2, 1), device="cpu")
    assert model.device == torch.device("cpu")
    assert model.to(torch.device("cpu")) is model


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_inputs_follow_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, 3, 16, 16)
    here = saywhy.explain(load(network), images).maps
    there = saywhy.explain(load(network, device="cuda"), images).maps
    torch.testing.assert_close(there.cpu(), here.cpu(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device must be 'cpu', 'cuda', 'cuda:1', 'mps' or a torch.device, got 'gpu'"),
        (1.5, "got 1.5"),
        ("", "got ''"),
        ("meta", "'meta' holds no values"),
        (ABSENT, f"device '{ABSENT}' is not available here. torch finds 'cpu'"),
    ],
)
def test_devices_that_are_not_here(device: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(nn.Conv2d(3, 2, 1), device=device)  # type: ignore[arg-type]
