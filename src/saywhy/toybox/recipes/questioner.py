"""The recipe of ``toybox:questioner``: ``python -m saywhy.toybox.recipes.questioner --out weights.safetensors``.

It uses the frozen visual trunk of ``toybox:vqa``, as the recipe of ``toybox:captioner`` does.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor

from saywhy.metrics.question_types import question_types
from saywhy.models import Model, load
from saywhy.tasks.generation.train import learn
from saywhy.tasks.questioning.networks import QuestionGenerator
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox import Scene, scene
from saywhy.toybox.language import question_truth
from saywhy.toybox.models.vision_language import ToyboxCaptionHead, question_head
from saywhy.toybox.recipes.question_data import draw_question_data
from saywhy.toybox.recipes.text_heads import describe_diversely, trunk_features
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Plan

SCENES = 12_000
TEST_SCENES = 500
STEPS = 6_000
PLAN = Plan((), batch=64, rate=2e-3, clip=5.0)


def fresh(seed: int, known: Vocabulary, vqa: VQAModel, attention: bool = True) -> QuestionGenerator:
    """Return a question generator with random weights, and the frozen trunk (and detector) of a VQA model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = question_head(len(known), attention)
    if isinstance(head, ToyboxCaptionHead):
        head.objects.load_state_dict(vqa.head.objects.state_dict())  # type: ignore[union-attr]
    vqa.trunk.requires_grad_(False)
    return QuestionGenerator(vqa.trunk.eval(), head)


@torch.no_grad()
def answers_of(vqa: Model, features: Tensor, texts: list[list[str]]) -> list[list[tuple[str, float]]]:
    """Return the answer of a VQA model to every question about every scene, and its probability."""
    known, labels, head = vqa.texts["question"], vqa.labels, vqa.module.head
    assert labels is not None
    index = [number for number, of_scene in enumerate(texts) for _ in of_scene]
    flat = [text for of_scene in texts for text in of_scene]
    found: list[tuple[str, float]] = []
    for part in torch.arange(len(flat)).split(200):
        words = known([flat[place] for place in part.tolist()])
        output = head(features[[index[place] for place in part.tolist()]], words)  # type: ignore[operator]
        likeliest = output.logits.softmax(1).max(1)
        values, places = likeliest.values.tolist(), likeliest.indices.tolist()
        found += [(labels[place], value) for place, value in zip(places, values, strict=True)]
    rows = iter(found)
    return [[next(rows) for _ in of_scene] for of_scene in texts]


def question_quality(
    texts: list[list[str]], scenes: Iterable[Scene], answers: list[list[tuple[str, float]]]
) -> dict[str, float]:
    """Return what share of questions, several about each scene, is understood, truthful, answerable, answered rightly.

    Args:
        texts: the questions about every scene.
        scenes: the scenes.
        answers: the answers of a VQA model to the questions, each with its probability.

    >>> question_quality([["is there a cat?", "cat"]], [scene("talk-test", 1)], [[("no", 0.9), ("no", 0.8)]])
    {'understood': 0.5, 'truthful': 0.5, 'answerable': 0.5, 'answered rightly': 0.5}
    """
    found = [
        (question_truth(text, drawn), answer)
        for of_scene, drawn, given in zip(texts, scenes, answers, strict=True)
        for text, (answer, _) in zip(of_scene, given, strict=True)
    ]
    return {
        "understood": sum(one is not None for one, _ in found) / len(found),
        "truthful": sum(one is not None and one.truthful for one, _ in found) / len(found),
        "answerable": sum(one is not None and one.answer is not None for one, _ in found) / len(found),
        "answered rightly": sum(one is not None and one.answer == answer for one, answer in found) / len(found),
    }


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: int,
    progress: Progress,
    devices: Devices = HERE,
    attention: bool = True,
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    training, test = (
        draw_question_data(split, count, progress) for split, count in (("talk-train", scenes), ("talk-test", tests))
    )
    known = Vocabulary.of(text for of_scene in training.texts for text in of_scene)
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    vqa = load("toybox:vqa")
    network = fresh(seed, known, vqa.module, attention)  # type: ignore[arg-type]
    features = trunk_features(network.trunk, training.images)
    bar, drawing = progress.add_task("training", total=steps, loss=""), perf_counter() - begin
    trained = learn(
        network.head,
        features,
        training.words(known),
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # evaluate the shipped precision, float16
    seen = trunk_features(network.trunk, test.images)
    texts = describe_diversely(network.head, seen, known)
    answers = answers_of(vqa, seen.float(), texts)
    quality = question_quality(texts, (scene("talk-test", index) for index in range(len(texts))), answers)
    metadata = {
        "model": "toybox:questioner",
        "words": "\n".join(known.words),
        "attention": str(attention).lower(),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "test_scenes": str(tests),
        "test_questions": json.dumps({name: round(share, 4) for name, share in quality.items()}),
        "question_types_of_six": f"{question_types(texts):.2f}",
    }
    save_weights(out, weights, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def main(
    out: command.WeightsFile,
    seed: command.Seed = 0,
    scenes: command.TrainingScenes = SCENES,
    tests: command.TestScenes = TEST_SCENES,
    steps: command.TrainingSteps = STEPS,
    attention: Annotated[bool, typer.Option(help="Whether the head attends to regions (top-down attention).")] = True,
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the question generator of Toybox. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(
        lambda progress: train(out, seed, scenes, tests, steps, progress, on, attention), threads, hidden=("words",)
    )


if __name__ == "__main__":
    typer.run(main)
