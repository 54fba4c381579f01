"""Cost of training with hints: a step of HINT and of its baselines against a plain step of the same network.

    python -m research.benchmarks.hints
    python -m research.benchmarks.hints --out docs/benchmarks-hints.md

Measured as in ``research.benchmarks.cost``: alternating, as ratios to a plain training step (forward, backward and
update) on the same batch, all of whose items have hints. Memory is that of a process of its own.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, machine, peak_memory, ratios, report, reset_peak_memory
from research.options import Out, Repeats
from saywhy.alignment.region_methods import REGION_METHODS, RegionBatch
from saywhy.engine.capture import Watched
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.passes import training_pass
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vqa.up_down import UpDownVQA, answer_loss
from saywhy.toybox.language import ANSWERS

BATCH, SIZE = 8, 224

GOAL = "at most 3"

IMAGE_METHODS = ("hint", "rrr-g", "mask-mse", "rrr")
REGION_STEPS = ("hint", "spread", "zero-out-100", "attention-cosine", "self-critical")

Steps = dict[str, Callable[[], object]]
"""By method, one training step; "plain" has nothing added."""


def image_steps(name: str) -> Steps:
    """Steps of an image classifier with random weights, on a batch of random images."""
    torch.manual_seed(0)
    network = _classifier(name).train()
    model = saywhy.Model(network)
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(1000, (BATCH,))
    hints = torch.zeros(BATCH, SIZE, SIZE)
    hints[:, 60:160, 60:160] = 1.0
    (found,) = {c.name: c for c in saywhy.layers(model, images[:1]) if c.name == LAYERS[name]}.values()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step(method: str) -> None:
        optimizer.zero_grad()
        known = FIX_METHODS[method]
        layer: Watched | None = found.watched() if known.watches == "layer" else None
        wants = known.watches == "input"
        batch = training_pass(model, network, images.clone(), labels, hints, layer, input_gradients=wants)
        loss = batch.task_losses.mean() + (0 if known.term is None else known.term(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return {"plain": partial(step, "erm"), **{method: partial(step, method) for method in IMAGE_METHODS}}


LAYERS = {"ResNet-18": "layer4", "ViT-S/16": "blocks.11.norm1"}


def _classifier(name: str) -> nn.Module:
    if name == "ResNet-18":
        from torchvision import models

        return models.resnet18(weights=None)
    import timm

    network: nn.Module = timm.create_model("vit_small_patch16_224", pretrained=False)
    return network


def region_steps(name: str) -> Steps:
    """Steps of a VQA network over region features: Toybox's (24 × 52) or the published one (36 × 2,048)."""
    torch.manual_seed(0)
    published = name == "UpDn, published sizes"
    regions, channels, batch, answers = (36, 2048, 64, 3129) if published else (24, 52, 64, len(ANSWERS))
    sizes = {} if published else {"embedded": 64, "hidden": 128}
    network = UpDownVQA(channels, 9000, answers, **sizes).train()
    features, words = torch.rand(batch, regions, channels), torch.randint(4, 9000, (batch, 14))
    scores = nn.functional.one_hot(torch.randint(answers, (batch,)), answers).float()
    hints, chosen = torch.rand(batch, regions), torch.ones(batch, dtype=torch.bool)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step(method: str | None) -> None:
        optimizer.zero_grad()
        taken = features.clone().requires_grad_(method is not None)
        output = network(as_feature_maps(taken), words)
        loss: Tensor = answer_loss(output.logits, scores)
        term = None if method is None else REGION_METHODS[method].term
        if term is not None:
            attention = output.attention.sum(1).flatten(1)
            loss = loss + term(RegionBatch(taken, output.logits, scores, attention, hints, chosen))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return {"plain": partial(step, None), **{method: partial(step, method) for method in REGION_STEPS}}


NETWORKS: dict[str, Callable[[str], Steps]] = {
    "ResNet-18": image_steps,
    "ViT-S/16": image_steps,
    "UpDn of Toybox": region_steps,
    "UpDn, published sizes": region_steps,
}


def seconds(repeats: int) -> list[Row]:
    """Time of a step."""
    rows = []
    for name, make in NETWORKS.items():
        steps = make(name)
        plain = steps.pop("plain")
        for method, values in ratios(plain, steps, repeats).items():
            rows.append(Row(f"time, {name}", method, formatted(values), GOAL if method == "hint" else ""))
            CONSOLE.print(f"{rows[-1].what} | {method} | {rows[-1].ratio}")
    return rows


def memory(_repeats: int) -> list[Row]:
    """Peak memory of a process that takes two steps, beyond network and inputs."""
    rows = []
    for name, make in NETWORKS.items():
        peaks = {}
        for method in ("plain", "hint", "rrr") if make is image_steps else ("plain", "hint"):
            code = f"from research.benchmarks.hints import _peak; _peak({name!r}, {method!r})"
            found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            peaks[method] = float(found.stdout)
        for method in list(peaks)[1:]:
            rows.append(Row(f"memory, {name}", method, f"{peaks[method] / peaks['plain']:.2f}", ""))
            CONSOLE.print(f"{rows[-1].what} | {method} | {rows[-1].ratio}")
    return rows


def _peak(name: str, method: str) -> None:
    """Print the peak memory of two steps in MB, beyond network and inputs."""
    step = NETWORKS[name](name)[method]
    reset_peak_memory()
    before = peak_memory()
    step()
    step()
    print(peak_memory() - before)


PARTS = {"seconds": seconds, "memory": memory}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = "\n".join(f"| {row.what} | {row.who} | {row.ratio} | {row.goal} |" for row in rows)
    return f"""# Cost of training with hints

Made by `python -m research.benchmarks.hints` ({repeats} repeats) on {machine()}.
Ratios to a plain training step (forward, backward, update) of the same network on the same batch in the same run,
median (lowest to highest); memory is that of two steps in a process of its own, beyond network and inputs. Classifiers:
{BATCH} images of {SIZE} × {SIZE} pixels, all with hints. UpDn: 64 questions, all with hints, over 24 regions of 52
channels (Toybox) or 36 of 2,048 and 3,129 answers (published).

| what | method | ratio | goal |
| --- | --- | --- | --- |
{lines}
"""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 7,
    out: Out = None,
) -> None:
    """Measure the cost of training with hints."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
