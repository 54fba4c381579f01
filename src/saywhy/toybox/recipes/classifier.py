"""The recipe of ``toybox:classifier``: ``python -m saywhy.toybox.recipes.classifier --out weights.safetensors``."""

from pathlib import Path
from time import perf_counter

import torch
import typer
from rich.progress import Progress
from torch import Tensor

from saywhy.toybox import KINDS
from saywhy.toybox.models.classifier import ToyboxClassifier, normalised
from saywhy.toybox.recipes.draw import cores, draw
from saywhy.toybox.recipes.mean_average_precision import logits_of, mean_average_precision
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Phase, Plan, fit

SCENES = 12_000
TEST_SCENES = 2_000
SCALES = (1, 2, 3)
"""Training scenes are drawn at these scales, in turn, and reduced."""

PHASES = (Phase(8, 64), Phase(2, 96), Phase(1, 128))


def fresh(seed: int) -> ToyboxClassifier:
    """Return a network with random weights whose prior probability of a kind is 0.1, as in the data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ToyboxClassifier(len(KINDS))
    torch.nn.init.constant_(network.head.bias, -2.2)  # the logit of 0.1
    return network


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    phases: tuple[Phase, ...],
    progress: Progress,
    devices: Devices = HERE,
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    network, plan = fresh(seed), Plan(phases, seed=seed)
    images, labels = _draw("train", scenes, progress, SCALES)
    bar = progress.add_task("training", total=plan.length(scenes), loss="")
    steps = fit(
        network,
        images,
        labels,
        plan,
        normalised,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    minutes = (perf_counter() - begin) / 60
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # evaluate the shipped precision, float16
    score, reduced = (
        mean_average_precision(logits_of(network, images), labels)
        for images, labels in (_draw("test", tests, progress, scales) for scales in ((1,), (3,)))
    )
    metadata = {
        "model": "toybox:classifier",
        "kinds": ",".join(KINDS),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(scenes),
        "minutes": f"{minutes:.1f}",
        "test_scenes": str(tests),
        "test_map": f"{score:.4f}",
        "test_map_reduced": f"{reduced:.4f}",
    }
    save_weights(out, weights, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def _draw(split: str, count: int, progress: Progress, scales: tuple[int, ...] = (1,)) -> tuple[Tensor, Tensor]:
    """Draw scenes on all cores, with a progress bar."""
    bar = progress.add_task(f"drawing {split}", total=count, loss="")
    return draw(split, count, processes=cores(), report=lambda done: progress.advance(bar, done), scales=scales)


def main(
    out: command.WeightsFile,
    seed: command.Seed = 0,
    scenes: command.TrainingScenes = SCENES,
    tests: command.TestScenes = TEST_SCENES,
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the classifier of Toybox. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(lambda progress: train(out, seed, scenes, tests, PHASES, progress, on), threads)


if __name__ == "__main__":
    typer.run(main)
