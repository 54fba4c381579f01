"""``saywhy caption``: a generated caption, or a given one, and a map of every word."""

import json

import pytest

NETWORK = """
import torch
from torch import nn
from saywhy.tasks.generation.networks import CaptionModel, TopDown
from saywhy.tasks.vocabulary import Vocabulary

known = Vocabulary.of(["a red cat and a blue mug"])
labels = known.words
texts = {"caption": known.batch}
input_size = 32

def network():
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    return CaptionModel(trunk, TopDown(6, len(known), 5, 7, 4))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("model") / "captioner.py"
    file.write_text(NETWORK)
    return f"{file}:network"


def test_caption_prints_a_caption_and_writes_a_page(run, model, noise, tmp_path):
    page = tmp_path / "why.html"
    ran = run("caption", noise, "-m", model, "-n", 2, "--with", "relu=false", "-o", page)
    assert ran.code == 0, ran.err
    first = ran.out.splitlines()[0]
    assert set(first.split()) <= {"a", "red", "cat", "and", "blue", "mug"}
    assert first in page.read_text()


def test_caption_explains_a_given_text(run, model, noise):
    ran = run(
        "caption", noise, "-m", model, "-t", "A blue cat!", "--method", "gradcam", "--with", "relu=false", "--json"
    )
    found = json.loads(ran.out)
    assert found["captions"] == ["A blue cat!"]
    assert [entry["target"] for entry in found["maps"]] == ["a blue cat", "a", "blue", "cat"]


def test_caption_accepts_other_methods(run, model, noise):
    methods = ("guided-gradcam", "rsi-gradcam", "guided-backprop", "model-attention")
    chosen = [word for method in methods for word in ("--method", method)]
    ran = run(
        "caption", noise, "-m", model, "-t", "a cat", *chosen, "--with", "relu=false", "--with", "steps=4", "--json"
    )
    assert ran.code == 0, ran.err
    maps = json.loads(ran.out)["maps"]
    assert {(entry["method"], entry["target"]) for entry in maps} == {
        (m, t) for m in methods for t in ("a cat", "a", "cat")
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-t", ""), "at least one word"),
        (("-t", "где кошка"), "none of the words"),
        (("-t", "cat " * 1000), "1000 words are too many"),
        (("-o", "x.txt"), "expected .html, .png, .jpg, .jpeg, .pdf, .svg, .npz or a folder"),
    ],
)
def test_caption_with_invalid_arguments_fails_with_a_message(run, model, noise, words, says):
    ran = run("caption", noise, "-m", model, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_caption_with_classifier_fails_with_a_message(run, noise):
    ran = run("caption", noise, "-m", "toybox:classifier")
    assert ran.code == 1
    assert "expected a model that generates text, got toybox:classifier" in " ".join(ran.err.split())


def test_caption_diverse_prints_groups_and_writes_a_page(run, model, noise, tmp_path):
    page = tmp_path / "why.html"
    ran = run("caption", noise, "-m", model, "--diverse", "2x2", "--with", "relu=false", "-o", page)
    assert ran.code == 0, ran.err
    heading, *lines = ran.out.splitlines()[:5]
    rows = [line.split(maxsplit=2) for line in lines]
    assert heading.split("  ") == ["group", "mean log-probability", "caption"]
    assert sorted(group for group, *_ in rows) == ["1", "1", "2", "2"]
    scores = [float(score) for _, score, _ in rows]
    assert scores == sorted(scores, reverse=True)
    text = page.read_text()
    assert all(caption in text for *_, caption in rows)


def test_caption_diverse_json_has_diverse_captions_and_map_distance(run, model, noise):
    ran = run(
        "caption",
        noise,
        "-m",
        model,
        "--diverse",
        "3x1",
        "--diversity-penalty",
        "2",
        "--method",
        "gradcam",
        "--with",
        "relu=false",
        "--json",
    )
    found = json.loads(ran.out)
    assert [one["group"] for one in found["diverse_captions"]].count(0) == 1
    assert len(found["maps"]) == len(set(found["captions"]))
    assert all(0 <= apart <= 2 for apart in found["map_distance"].values())
    assert found["map_distance"].keys() == ({"gradcam"} if len(found["maps"]) > 1 else set())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--diverse", "3"), "GROUPSxBEAMS"),
        (("--diverse", "0x2"), "GROUPSxBEAMS"),
        (("--diverse", "2x2", "-t", "a cat"), "Give one of them"),
    ],
)
def test_caption_diverse_with_invalid_shape_fails_with_a_message(run, model, noise, words, says):
    ran = run("caption", noise, "-m", model, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--diverse", "3x2", "--count", "4"], "leave --count out"),
        (["--diversity-penalty", "2"], "--diversity-penalty needs --diverse"),
        (["--diverse", "10x10"], "at most 60"),
    ],
)
def test_caption_with_conflicting_options_fails(run, noise, arguments, words):
    ran = run("caption", noise, *arguments)
    assert ran.code != 0
    assert words in " ".join(ran.err.split())
