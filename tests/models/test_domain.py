"""The kind of images that a demo model knows."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import saywhy
from saywhy.errors import SaywhyWarning
from saywhy.models.domain import ImageDomain
from saywhy.toybox import scene
from saywhy.view.payload import payload


def photograph_like(seed: int) -> Image.Image:
    """An image with the 1/f spectrum of photographs (Field, 1987)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    frequency[0, 0] = 1.0
    noise = np.fft.rfft2(rng.standard_normal((3, 128, 128)))
    waves = np.fft.irfft2(noise / frequency, s=(128, 128))
    unit = 0.5 + 0.2 * (waves - waves.mean((1, 2), keepdims=True)) / waves.std((1, 2), keepdims=True)
    return Image.fromarray((255 * unit.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0))


def test_distance_is_mahalanobis_over_the_root_of_the_number_of_statistics():
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3))
    mean, covariance = sample.mean(0), np.cov(sample.T)
    point = rng.standard_normal(3)
    domain = ImageDomain("points", lambda _: point, mean, np.linalg.inv(covariance), 1.0)
    # Independent: the squared distance is -2 log of the density, less its value at the mean.
    density = stats.multivariate_normal(mean, covariance)
    expected = np.sqrt(2 * (density.logpdf(mean) - density.logpdf(point)) / 3)
    assert domain.distance(Image.new("RGB", (2, 2))) == pytest.approx(expected)


@pytest.mark.parametrize("size", [128, 384])
def test_drawn_scenes_are_known_and_others_are_refused_in_one_sentence(size):
    model = saywhy.load("toybox:classifier")
    known = [not model.domain.objection(Image.fromarray(scene("test", i, size).image)) for i in range(12)]
    assert all(known)
    for seed in range(5):
        assert "knows only drawn Toybox scenes" in model.domain.objection(photograph_like(seed))


def test_an_explanation_of_a_photograph_warns_and_its_map_is_bad():
    with pytest.warns(SaywhyWarning, match=r"image: this model knows only drawn Toybox scenes.*unlike"):
        e = saywhy.explain("toybox:classifier", photograph_like(0))
    found = {d.name: d.state for d in e.diagnostics[e.methods[0], e.layers[0]][0][0]}
    assert found["domain"] == "bad"
    data = json.loads(json.dumps(payload(e)))
    assert "unlike" in data["images"][0]["objection"]
    assert data["provenance"]["knows_only"] == "drawn Toybox scenes"


def test_scenes_and_tensors_of_drawn_images_have_no_objection():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = saywhy.explain("toybox:classifier", scene("test", 3).image)
        saywhy.explain("toybox:classifier", torch.rand(1, 3, 128, 128), relu=False)
    assert "domain" not in {d.name for d in e.diagnostics[e.methods[0], e.layers[0]][0][0]}
    assert payload(e)["images"][0]["objection"] == ""


def test_own_networks_and_random_weights_have_no_domain():
    assert saywhy.load(torch.nn.Conv2d(3, 2, 3)).domain is None
    assert saywhy.load("toybox:classifier", weights="random").domain is None
