"""The recipe of ``toybox:captioner``: ``python -m saywhy.toybox.recipes.captioner --out weights.safetensors``.

It uses the frozen visual trunk of ``toybox:vqa``, so the features of every image are computed once.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import torch
import typer
from rich.progress import Progress

from saywhy.models import load
from saywhy.tasks.generation.networks import CaptionModel
from saywhy.tasks.generation.train import learn
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox import Scene, scene
from saywhy.toybox.language.mentions import mentions
from saywhy.toybox.models.vision_language import ToyboxCaptionHead
from saywhy.toybox.recipes.language_data import draw_language_data
from saywhy.toybox.recipes.text_heads import describe, trunk_features
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Plan

SCENES = 12_000
TEST_SCENES = 1_000
STEPS = 5_000
PLAN = Plan((), batch=64, rate=2e-3, clip=5.0)


def fresh(seed: int, known: Vocabulary, vqa: VQAModel) -> CaptionModel:
    """Return a captioner with random weights, and the frozen trunk and object detector of a VQA model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ToyboxCaptionHead(len(known))
    head.objects.load_state_dict(vqa.head.objects.state_dict())  # type: ignore[union-attr]
    vqa.trunk.requires_grad_(False)
    return CaptionModel(vqa.trunk.eval(), head)


def mention_accuracy(texts: list[str], split: str) -> dict[str, float]:
    """Return the share of right mentions of kinds, colours and counts in captions of the first scenes of a split."""
    return mention_accuracy_of(texts, (scene(split, index) for index in range(len(texts))))


def mention_accuracy_of(texts: list[str], scenes: Iterable[Scene]) -> dict[str, float]:
    """Return the share of right mentions of kinds, colours and counts in captions, each of its scene."""
    found: dict[str, list[bool]] = defaultdict(list)
    for text, drawn in zip(texts, scenes, strict=True):
        for mention in mentions(text, drawn):
            found[mention.claim].append(mention.right)
    return {claim: sum(right) / len(right) for claim, right in sorted(found.items())}


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: int,
    progress: Progress,
    devices: Devices = HERE,
    sees: VQAModel | None = None,
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata.

    ``sees`` is the VQA model whose trunk is used; None is ``toybox:vqa``.
    """
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    training, test = (
        draw_language_data(split, count, progress) for split, count in (("talk-train", scenes), ("talk-test", tests))
    )
    known = Vocabulary.of(text for of_scene in training.caption_texts for text in of_scene)
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    network = fresh(seed, known, sees or load("toybox:vqa").module)  # type: ignore[arg-type]
    features = trunk_features(network.trunk, training.images)
    bar, drawing = progress.add_task("training", total=steps, loss=""), perf_counter() - begin
    trained = learn(
        network.head,
        features,
        training.captions(known),
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # evaluate the shipped precision, float16
    texts = describe(network.head, trunk_features(network.trunk, test.images), known)
    accuracies = mention_accuracy(texts, "talk-test")
    metadata = {
        "model": "toybox:captioner",
        "words": "\n".join(known.words),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "test_scenes": str(tests),
        "test_truthfulness": json.dumps({claim: round(share, 4) for claim, share in accuracies.items()}),
        "mean_caption_length": f"{sum(len(text.split()) for text in texts) / len(texts):.1f}",
        "distinct_captions": str(len(set(texts))),
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
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the captioner of Toybox. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(
        lambda progress: train(out, seed, scenes, tests, steps, progress, on), threads, hidden=("words",)
    )


if __name__ == "__main__":
    typer.run(main)
