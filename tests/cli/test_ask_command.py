"""``saywhy ask``: answers to a question about an image, each with its map; and errors."""

import json
import re

import pytest

from saywhy.cli.ask import print_uncertainty
from saywhy.uncertainty.report import UncertaintyComponent, UncertaintyReport

NETWORK = """
import torch
from torch import nn
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel, ShowAskAttendAnswer

known = Vocabulary.of(["is there a red cat", "what colour is the cat", "where"])
labels = ["yes", "no", "red", "blue"]
texts = {"question": known.batch}
input_size = 32

def network():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    return VQAModel(trunk, ShowAskAttendAnswer(6, len(known), 4, embedded=5, hidden=7, attended=8, inner=9))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("model") / "vqa.py"
    file.write_text(NETWORK)
    return f"{file}:network"


def test_uncertainty_table_never_rounds_to_100_percent(capsys):
    component = UncertaintyComponent("total", 0.5, "nats", 0.9996)
    print_uncertainty(UncertaintyReport("red", 0.99996, (component,), None, "", 1))
    shown = capsys.readouterr().out
    assert "answer: red, > 99.9 %" in shown
    assert "> 99.9 % of a test" in shown


def test_ask_prints_answers_and_writes_a_page(run, model, noise, tmp_path):
    page = tmp_path / "why.html"
    ran = run("ask", noise, "is there a red cat?", "--model", model, "--with", "relu=false", "-o", page)
    assert ran.code == 0, ran.err
    assert sum(answer in ran.out for answer in ("yes", "no", "red", "blue")) >= 3
    assert "is there a red cat?" in page.read_text()


def test_ask_explains_the_contrast_of_two_answers(run, model, noise):
    ran = run("ask", noise, "is there a cat", "-m", model, "-a", "red - blue", "--with", "relu=false", "--json")
    (found,) = json.loads(ran.out)
    assert [entry["target"] for entry in found["maps"]] == ["red - blue"]
    assert found["image"] == "scene.png · is there a cat"


def test_ask_accepts_other_methods(run, model, noise):
    methods = ("guided-gradcam", "rsi-gradcam", "guided-backprop", "model-attention")
    chosen = [word for method in methods for word in ("--method", method)]
    ran = run(
        "ask", noise, "is there a cat", "-m", model, *chosen, "--with", "relu=false", "--with", "steps=4", "--json"
    )
    assert ran.code == 0, ran.err
    (found,) = json.loads(ran.out)
    assert {entry["method"] for entry in found["maps"]} == set(methods)
    assert len({entry["target"] for entry in found["maps"]}) == 3


def test_ask_words_adds_per_word_ablation_maps(run, model, noise):
    ran = run("ask", noise, "is there a red cat?", "-m", model, "--words", "--json")
    whole, words = json.loads(ran.out)
    assert len(whole["maps"]) == 3
    assert [entry["target"] for entry in words["maps"]] == ["is", "there", "a", "red", "cat"]


def test_ask_reports_unknown_words(run, model, noise, tmp_path):
    ran = run("ask", noise, "is there a zebra?", "-m", model, "-o", tmp_path / "why.html", "--with", "relu=false")
    assert ran.code == 0
    assert re.search(r"not in the vocabulary of \S+:network: 'zebra'", ran.out + ran.err)


@pytest.mark.parametrize(
    ("question", "words", "says"),
    [
        ("", (), "at least one word"),
        ("cat " * 1000, (), "1000 words are too many"),
        ("где кошка?", (), "none of the words"),
        ("is there a cat", ("-a", "green"), "no class 'green'"),
        ("is there a cat", ("-a", "red", "-a", "blue", "--words"), "one answer at a time"),
        ("is there a cat", ("--words", "-o", "x.png"), "do not fit into one .png file"),
    ],
)
def test_ask_with_invalid_arguments_fails_with_a_message(run, model, noise, question, words, says):
    ran = run("ask", noise, question, "-m", model, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_ask_with_classifier_fails_with_a_message(run, noise):
    ran = run("ask", noise, "is there a cat", "-m", "toybox:classifier")
    assert ran.code == 1
    assert "toybox:classifier takes no words beside an image" in " ".join(ran.err.split())
