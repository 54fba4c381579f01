"""Cost of methods that run the network many times, against plain passes and against other packages, in one run.

    python -m research.benchmarks.perturbation                     # everything, about half an hour on two cores
    python -m research.benchmarks.perturbation --only ablation --repeats 3
    python -m research.benchmarks.perturbation --out docs/benchmarks-perturbation.md

Every figure is a ratio to plain ``inference_mode`` passes of the same model, measured alternating as in
``research.benchmarks.cost``; the median over the repeats is given. Other packages take minutes and are measured at most
three times. Memory is measured in a separate process for each method.
"""

import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, inference, machine, peak_memory, ratios, report
from research.options import Out, Repeats
from saywhy.engine.precision import has_bfloat16
from saywhy.methods import METHODS

LAYER = "layer4"
ONE_PASS = ["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "gradcam-elementwise"]
EIGEN = ["eigencam", "eigengradcam"]
STEPS = 50
BATCH = 16
"""Batch size: saywhy's default, also used for the plain passes."""

PEER_TURNS = 3

Form = Callable[[Any], Any]


def _network(name: str) -> nn.Module:
    """Build a network with random weights, whose run time is that of trained ones."""
    from torchvision import models

    torch.manual_seed(0)
    return models.get_model(name, weights=None).eval()


def _batches(module: nn.Module, count: int, size: int = BATCH, form: Form = lambda t: t) -> Callable[[], object]:
    """Return a call that makes plain passes of ``count`` images; ``form`` converts network and images."""
    x = form(torch.randn(size, 3, 224, 224))
    module = form(module)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, count, size):
                module(x[: min(size, count - start)])

    return run


def _in_bfloat16(what: Any) -> Any:
    """Convert to bfloat16 and channels-last, the lower bound for the time of ``precision="fast"``."""
    return what.to(torch.bfloat16).to(memory_format=torch.channels_last)


def _peer(kind: str, module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a call of a method of pytorch-grad-cam for class 0, without its progress bar."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def run() -> None:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            getattr(pytorch_grad_cam, kind)(module, [module.get_submodule(LAYER)]) as cam,
        ):
            cam(x, [ClassifierOutputTarget(0)])

    return run


def _rows(
    what: str, plain: Callable[[], object], calls: dict[str, Callable[[], object]], repeats: int, goal: str
) -> list[Row]:
    """Return a row for each call; other packages are measured fewer times."""
    rows = []
    for who, call in calls.items():
        peer = who == "pytorch-grad-cam"
        values = ratios(plain, {who: call}, min(repeats, PEER_TURNS) if peer else repeats)[who]
        rows.append(Row(what, who, formatted(values), "" if peer else goal))
        CONSOLE.print(f"{rows[-1].what} | {rows[-1].who} | {rows[-1].ratio}")
    return rows


def ablation(repeats: int) -> list[Row]:
    """Ablation-CAM, as a ratio to a plain pass of one image."""
    rows = []
    for name, goal in (("resnet18", "at most 5"), ("resnet50", "at most 20")):
        module, x = _network(name), torch.randn(1, 3, 224, 224)
        calls: dict[str, Callable[[], object]] = {
            "saywhy": lambda m=module, x=x: saywhy.explain(m, x, 0, "ablationcam", LAYER, relu=False)
        }
        if name == "resnet18":  # on ResNet-50 the peer takes minutes a map
            calls["pytorch-grad-cam"] = _peer("AblationCAM", module, x)
        rows += _rows(f"Ablation-CAM, {name}, in passes of one image", inference(module, x), calls, repeats, goal)
    return rows


def score(repeats: int) -> list[Row]:
    """Score-CAM against plain inference on as many images as the layer has channels."""
    module, x = _network("resnet18"), torch.randn(1, 3, 224, 224)
    plain = _batches(module, 512)

    def ours(precision: str) -> Callable[[], object]:
        return lambda: saywhy.explain(module, x, 0, "scorecam", LAYER, relu=False, precision=precision)

    peer = {"pytorch-grad-cam": _peer("ScoreCAM", module, x)}
    what = "Score-CAM, resnet18, in plain passes of 512 images"
    rows = _rows(what, plain, {"saywhy": ours("exact"), **peer}, repeats, "at most 1.1")
    fast = "Score-CAM, resnet18, precision='fast'"
    calls = {"saywhy": ours("fast")}
    if has_bfloat16(torch.device("cpu")):
        calls["plain passes in bfloat16"] = _batches(_network("resnet18"), 512, form=_in_bfloat16)
    values = ratios(peer["pytorch-grad-cam"], calls, min(repeats, PEER_TURNS))
    return [
        *rows,
        *(
            Row(
                f"{fast}, relative to pytorch-grad-cam",
                who,
                formatted(values[who]),
                "at most 0.33" if who == "saywhy" else "",
            )
            for who in calls
        ),
    ]


def path(repeats: int) -> list[Row]:
    """RSI-Grad-CAM with 50 steps against plain inference on its 51 images, in batches of the same size."""
    module, x = _network("resnet50"), torch.randn(1, 3, 224, 224)
    calls = {"saywhy": lambda: _rsi(module, x)}
    what = f"RSI-Grad-CAM, {STEPS} steps, resnet50, in plain passes of {STEPS + 1} images"
    return _rows(what, _batches(module, STEPS + 1), calls, repeats, "at most 1.1")


def _rsi(module: nn.Module, x: Tensor) -> object:
    return saywhy.explain(module, x, 0, "rsi-gradcam", LAYER, relu=False, steps=STEPS, baseline="zero")


def together(repeats: int) -> list[Row]:
    """All one-pass methods, Eigen-CAM and RSI-Grad-CAM in one call, against the most expensive of them alone."""
    module, x = _network("resnet50"), torch.randn(1, 3, 224, 224)
    names = [*ONE_PASS, *EIGEN, "rsi-gradcam"]
    everything: dict[str, Any] = {"relu": False, "steps": STEPS, "baseline": "zero"}
    calls = {"saywhy": lambda: saywhy.explain(module, x, 0, names, LAYER, **everything)}
    what = f"{len(names)} methods in one call, resnet50, relative to RSI-Grad-CAM alone"
    return _rows(what, lambda: _rsi(module, x), calls, repeats, "at most 1.2")


MEMORY: dict[str, tuple[str, dict[str, Any]]] = {
    "a plain pass": ("resnet50", {}),
    "Grad-CAM": ("resnet50", {"method": "gradcam"}),
    "Ablation-CAM": ("resnet50", {"method": "ablationcam"}),
    "Recipro-CAM": ("resnet50", {"method": "reciprocam"}),
    "RSI-Grad-CAM, 50 steps": ("resnet50", {"method": "rsi-gradcam", "steps": STEPS, "baseline": "zero"}),
    "RSI-Grad-CAM, 400 steps": ("resnet50", {"method": "rsi-gradcam", "steps": 400, "baseline": "zero"}),
    "Score-CAM": ("resnet18", {"method": "scorecam"}),
    "RISE, 100 masks": ("resnet50", {"method": "rise", "masks": 100}),
    "RISE, 1,000 masks": ("resnet50", {"method": "rise", "masks": 1000}),
    "occlusion": ("resnet50", {"method": "occlusion"}),
    "SS-CAM, 2 samples": ("resnet18", {"method": "sscam", "num_samples": 2}),
    "IS-CAM, 2 steps": ("resnet18", {"method": "iscam", "steps": 2}),
    "LIME, 100 samples": ("resnet50", {"method": "lime", "num_samples": 100}),
    "KernelSHAP, 100 samples": ("resnet50", {"method": "kernelshap", "num_samples": 100}),
    "integrated gradients, 50 steps": ("resnet50", {"method": "integrated-gradients", "baseline": "zero"}),
    "Integrated Grad-CAM, 50 steps": ("resnet50", {"method": "integrated-gradcam", "baseline": "zero"}),
    "SmoothGrad, 25 samples": ("resnet50", {"method": "smoothgrad"}),
    "Smooth Grad-CAM++, 10 samples": ("resnet50", {"method": "smooth-gradcam++"}),
    "saliency": ("resnet50", {"method": "saliency"}),
    "guided backprop": ("resnet50", {"method": "guided-backprop"}),
    "Guided Grad-CAM": ("resnet50", {"method": "guided-gradcam"}),
    "excitation backprop": ("resnet50", {"method": "excitation-backprop"}),
    "FullGrad": ("resnet50", {"method": "fullgrad"}),
    "LRP": ("resnet50", {"method": "lrp"}),
    "Shapley-CAM": ("resnet50", {"method": "shapleycam"}),
    "attention rollout": ("vit_b_16", {"method": "attention-rollout"}),
    "generic attention": ("vit_b_16", {"method": "generic-attention"}),
}
"""By name: the network and the settings of the explanation whose memory is measured in a separate process."""


def memory(_repeats: int) -> list[Row]:
    """Peak resident memory of a process that makes one explanation, less that after a plain pass."""
    rows = []
    for what, (network, settings) in MEMORY.items():
        code = f"from research.benchmarks.perturbation import _peak; _peak({network!r}, {settings!r})"
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        rows.append(Row(f"peak memory of {what}, {network}", "saywhy", f"{float(found.stdout):+.0f} MB"))
        CONSOLE.print(f"{rows[-1].what} | {rows[-1].ratio}")
    return rows


def _peak(name: str, settings: dict[str, Any]) -> None:
    """Print the rise of this process's peak memory in MB."""
    warnings.simplefilter("ignore")
    module, x = _network(name), torch.randn(1, 3, 224, 224)
    inference(module, x)()
    before = peak_memory()
    if settings:
        at_layer = METHODS[settings["method"]].at == "layer" and name != "vit_b_16"
        layer = {"layer": LAYER} if at_layer else {}
        saywhy.explain(module, x, 0, **layer, **settings)
    else:
        inference(module, x)()
    print(peak_memory() - before)


PARTS = {"ablation": ablation, "score": score, "path": path, "together": together, "memory": memory}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = [
        "# Cost of methods that run the network many times",
        "",
        f"Made by `python -m research.benchmarks.perturbation` ({repeats} repeats) on {machine()}.",
        "Ratios of times in the same run, median (lowest to highest). Networks are those of torchvision with random",
        f"weights, at 224 × 224 pixels, in batches of {BATCH}. Memory is the rise of the peak memory of a separate",
        "process above a plain pass of one image, measured once. It is accurate to about 100 MB, because torch caches",
        "memory (two runs of the same method differ by that much).",
        "",
        "| what | package | measured | goal |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {r.what} | {r.who} | {r.ratio} | {r.goal} |" for r in rows), ""])


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 5,
    out: Out = None,
) -> None:
    """Measure the cost of perturbation and path methods."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
