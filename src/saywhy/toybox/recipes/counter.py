"""The recipe of ``toybox:counter``: ``python -m saywhy.toybox.recipes.counter --out weights.safetensors``.

The feature maps are those of ``toybox:classifier``, which is frozen, so the features of every scene are computed once.
It learns from "talk-train", whose scenes have two to four objects, often several of a kind.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from saywhy.errors import InputError
from saywhy.metrics.counting import ImageCounts, m_relrmse, m_relrmse_nz, mrmse, mrmse_nz
from saywhy.models import load
from saywhy.tasks.counting.baselines import category_mean
from saywhy.tasks.counting.intervals import LEAST_PAIRS, CountErrors
from saywhy.tasks.counting.networks import CountHead
from saywhy.tasks.counting.train import learn_counter, predict_counts
from saywhy.toybox import KINDS
from saywhy.toybox.models.counter import COUNTER_KINDS, CounterKind, counter_head, toybox_counter
from saywhy.toybox.recipes.counter_data import CounterData, counter_data
from saywhy.toybox.recipes.draw import cores
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Plan

SCENES, VAL_SCENES, TEST_SCENES = 12_000, 1_500, 2_000
STEPS = 4_000

PLAN = Plan((), batch=64, rate=2e-3, decay=1e-4, warmup=100, clip=5.0)


def fresh_head(seed: int, kind: CounterKind = "sequential", grid: int = 3, hidden: int = 64) -> CountHead:
    """Return a head with random weights that depend on the seed only.

    >>> torch.equal(fresh_head(1, "glance", 1).net[0].weight, fresh_head(1, "glance", 1).net[0].weight)
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return counter_head(kind, grid, hidden)


def count_errors(found: ImageCounts, true: ImageCounts) -> dict[str, float]:
    """Return the four errors of counts by their names in metadata.

    >>> count_errors(torch.zeros(2, 1), torch.ones(2, 1))["mrmse"]
    1.0
    """
    return {function.__name__: function(found, true).value for function in (mrmse, mrmse_nz, m_relrmse, m_relrmse_nz)}


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: int,
    progress: Progress,
    devices: Devices = HERE,
    kind: CounterKind = "sequential",
    grid: int = 3,
    hidden: int = 64,
    every: int = 100,
    plan: Plan = PLAN,
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata."""
    check_name(out)
    if kind == "glance" and grid != 1:
        raise InputError(f"glancing takes the whole image, a grid of 1, got a grid of {grid}. Use --grid 1.")
    devices.fabric()
    begin = perf_counter()
    head = fresh_head(seed, kind, grid, hidden)
    network = toybox_counter(head, load("toybox:classifier").module)  # type: ignore[arg-type]
    learned, kept, test = (
        _draw(split, count, network.features, grid, progress)
        for split, count in (("talk-train", scenes), ("talk-val", min(scenes, VAL_SCENES)), ("talk-test", tests))
    )
    bar = progress.add_task("training", total=steps, loss="")
    learn_counter(
        head,
        learned.features,
        learned.cells,
        replace(plan, seed=seed),
        steps,
        validation=(kept.features, kept.cells),
        checkpoint=out.with_suffix(".checkpoint"),
        every=every,
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    minutes = (perf_counter() - begin) / 60
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # evaluate the shipped precision, float16
    # The features of the test scenes are those of the classifier's weights in float16 already: it ships in float16.
    errors = count_errors(predict_counts(head, test.features), test.counts)
    constant = count_errors(category_mean(learned.counts, len(test)), test.counts)
    metadata = {
        "model": "toybox:counter",
        "kinds": ",".join(KINDS),
        "kind": kind,
        "grid": str(grid),
        "hidden": str(hidden),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(scenes),
        "minutes": f"{minutes:.1f}",
        "test_scenes": str(tests),
        **_interval_errors(head, kept),
        **{f"test_{name}": f"{value:.4f}" for name, value in errors.items()},
        **{f"test_{name}_of_category_mean": f"{value:.4f}" for name, value in constant.items()},
    }
    save_weights(out, weights, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def _interval_errors(head: CountHead, kept: CounterData) -> dict[str, str]:
    """Return the entry of the metadata that intervals are made of; none for fewer scenes than a range of errors needs.

    The scenes selected the weights too, of some hundred steps, so that the errors on them are a little too small.
    """
    if kept.counts.numel() < LEAST_PAIRS:
        return {}
    return {"count_errors": CountErrors.of(predict_counts(head, kept.features), kept.counts).text()}


def _draw(split: str, count: int, features: torch.nn.Module, grid: int, progress: Progress) -> CounterData:
    """Draw scenes on all cores, with a progress bar."""
    bar = progress.add_task(f"drawing {split}", total=count, loss="")
    return counter_data(split, count, features, grid, cores(), lambda done: progress.advance(bar, done))


def main(
    out: command.WeightsFile,
    seed: command.Seed = 0,
    scenes: command.TrainingScenes = SCENES,
    tests: command.TestScenes = TEST_SCENES,
    steps: command.TrainingSteps = STEPS,
    kind: Annotated[str, typer.Option(help=f"The network: {', '.join(COUNTER_KINDS)}.")] = "sequential",
    grid: Annotated[int, typer.Option(min=1, help="Cells a side; 1 for glance.")] = 3,
    hidden: Annotated[int, typer.Option(min=1, help="Width of its hidden layers.")] = 64,
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the counter of Toybox. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(
        lambda progress: train(out, seed, scenes, tests, steps, progress, on, kind, grid, hidden),  # type: ignore[arg-type]
        threads,
    )


if __name__ == "__main__":
    typer.run(main)
