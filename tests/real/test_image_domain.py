"""Photographs are no drawn scenes: the demo models say so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import saywhy

pytestmark = [pytest.mark.real, pytest.mark.nightly]


def test_the_demo_model_refuses_the_cat_and_the_dog_and_most_photographs(real: Path):
    domain = saywhy.load("toybox:classifier").domain
    assert domain is not None
    assert domain.objection(Image.open(real / "imagenet" / "photos" / "cat_dog.jpg"))
    files = sorted((real / "coco" / "photos").glob("*.jpg"))
    assert np.mean([bool(domain.objection(Image.open(file))) for file in files]) > 0.8
