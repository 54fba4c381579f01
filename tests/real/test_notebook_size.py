"""A cell of a notebook with sixteen photographs."""

from pathlib import Path

import pytest
import torch

import saywhy
from saywhy.models import Preprocess

pytestmark = [pytest.mark.real, pytest.mark.nightly]


def test_sixteen_photographs_cost_less_than_500_kb(real: Path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 16, stride=16), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    model = saywhy.load(network, input_size=224)
    assert isinstance(model.preprocess, Preprocess)
    files = sorted((real / "coco" / "photos").glob("*.jpg"))
    for start in range(0, len(files) - 15, 16):
        e = saywhy.explain(model, files[start : start + 16], [0, 1, 2], relu=False)
        assert len(e._repr_html_().encode()) < 500_000
