"""What a page names as the test of a generated text's maps is Python that runs."""

import dataclasses

import pytest
import torch
from torch import nn

import saywhy
from saywhy.tasks.captioning.caption import explain_captions
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.view.payload import payload

KNOWN = Vocabulary.of(["a red cat and a blue mug"])
RESULTS = {
    "caption": lambda model, image: saywhy.caption(model, image, "a red cat", "gradcam"),
    "captions": lambda model, image: explain_captions(model, image, ["a red cat", "a mug"], "gradcam"),
    "questions": lambda model, image: saywhy.questions(model, image, 2),
    "words": lambda model, image: saywhy.questions(model, image, 2).words(0),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::saywhy.errors.SaywhyWarning")
@pytest.mark.parametrize("kind", RESULTS)
def test_the_named_test_runs(kind):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    network = CaptionModel(trunk, ShowAndTell(6, len(KNOWN), 5, 7)).eval()
    model = dataclasses.replace(saywhy.load(network, labels=KNOWN.words, input_size=16), texts={"caption": KNOWN.batch})
    image = torch.rand(1, 3, 16, 16)
    result = RESULTS[kind](model, image)
    named = {one["check"] for one in payload(result)["images"][0]["maps"]}
    assert len(named) == 1
    call = named.pop().removesuffix(".save('check.html')")
    assert call.startswith("saywhy.check(")
    e = saywhy.questions(model, image, 2) if kind == "words" else result
    names = {"saywhy": saywhy, "e": e, "model": model, "image": image, "caption": "a mug"}
    assert eval(call, names).verdicts[0][0].results
