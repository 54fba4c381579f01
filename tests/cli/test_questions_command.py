"""``saywhy questions``: what can be asked about an image, with a map of every question."""

import json

import numpy as np
import pytest
from PIL import Image

GENERATOR = """
import torch
from torch import nn
from saywhy.tasks.generation.networks import TopDown
from saywhy.tasks.questioning.networks import QuestionGenerator
from saywhy.tasks.vocabulary import Vocabulary

known = Vocabulary.of(["what colour is the red cat"])
labels = known.words
texts = {"question": known.batch}
input_size = 32

def network():
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    return QuestionGenerator(trunk, TopDown(6, len(known), 5, 7, 4))
"""

VQA = """
from torch import nn
from saywhy.tasks.vocabulary import Vocabulary

known = Vocabulary.of(["what colour is the red cat"])
labels = ["red", "[b]blue[/b]"]
texts = {"question": known.batch}
input_size = 32

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, image, question):
        return self.head(image.mean((2, 3)) + question.float().mean(1, keepdim=True))

def network():
    return Net()
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for name, text in (("generator.py", GENERATOR), ("vqa.py", VQA)):
        (folder / name).write_text(text)
    return f"{folder / 'generator.py'}:network", f"{folder / 'vqa.py'}:network"


def test_questions_are_printed_and_written(run, models, noise, tmp_path):
    page = tmp_path / "questions.html"
    ran = run("questions", noise, "-m", models[0], "--diverse", "3x1", "--with", "relu=false", "-o", page)
    assert ran.code == 0, ran.err
    heading, first = ran.out.splitlines()[:2]
    assert heading.split() == ["no.", "question"]
    number, question = first.split(maxsplit=1)
    assert number == "1"
    assert question.strip().endswith("?")
    assert question.strip() in page.read_text()
    assert "3 questions, " in ran.out
    assert "type: " in page.read_text()


def test_json_has_questions_with_answers_and_maps_of_words(run, models, noise):
    ran = run(
        "questions", noise, "-m", models[0], "--diverse", "2x1", "--answer", "--vqa", models[1], "--with", "relu=false",
        "--prompt", "What colour", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["generated"] == 2
    assert len(found["maps"]) == len(found["questions"])
    for one, map_ in zip(found["questions"], found["maps"], strict=True):
        assert one["text"] == map_["target"]
        assert one["text"].startswith("what colour ")
        assert one["type"] == "what colour"
        assert one["answer"]["answer"] in ("red", "[b]blue[/b]")
        assert 0 <= one["answer"]["probability"] <= 1
        assert [word["target"] for word in one["words"]] == one["text"].rstrip("?").split()
    assert found["types"] == ["what colour"]


def test_answers_are_printed_as_plain_text(run, models, noise):
    ran = run("questions", noise, "-m", models[0], "--diverse", "1x2", "-a", "--vqa", models[1], "--with", "relu=false")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split() == ["no.", "question", "answer"]
    assert "red, " in lines[1] or "[b]blue[/b], " in lines[1]
    assert any(line.split()[:4] == ["no.", "group", "type", "log-prob."] for line in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--diverse", "6"), "GROUPSxBEAMS"),
        (("--diverse", "10x10"), "at most 60"),
        (("--prompt", "где кошка"), "got 'где кошка' with 'где', 'кошка'"),
        (("--vqa-weights", "x.safetensors"), "needs --answer"),
        (("-o", "x.txt"), "expected .html, .png, .jpg, .jpeg, .pdf, .svg, .npz or a folder"),
        (("-a", "--vqa", "toybox:classifier"), "expected a model that answers questions, got toybox:classifier"),
    ],
)
def test_questions_with_invalid_arguments_fail_with_a_message(run, models, noise, words, says):
    ran = run("questions", noise, "-m", models[0], *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_a_blank_image_and_a_model_without_text_fail_with_a_message(run, models, noise, tmp_path):
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(blank)
    ran = run("questions", blank, "-m", models[0])
    assert ran.code == 1
    assert "something to ask about, got 'blank.png'" in " ".join(ran.err.split())
    ran = run("questions", noise, "-m", "toybox:vqa")
    assert ran.code == 1
    assert "which needs a question beside an image. Give a question generator" in " ".join(ran.err.split())


def test_the_questioner_that_does_not_ship_yet_says_how_to_train_it(run, noise):
    from importlib.resources import files

    if (files("saywhy.toybox") / "weights" / "toybox-questioner.safetensors").is_file():
        ran = run("questions", noise)
        assert ran.code == 0, ran.err
        return
    ran = run("questions", noise)
    assert ran.code == 1
    assert "saywhy train toybox:questioner" in " ".join(ran.err.split())
