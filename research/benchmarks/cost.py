"""Cost of an explanation against one plain inference pass and against other packages, measured in one run.

    python -m research.benchmarks.cost                     # everything, about half an hour on two cores
    python -m research.benchmarks.cost --only gradcam --repeats 5
    python -m research.benchmarks.cost --out docs/benchmarks.md

Every figure is a ratio: the time of the call divided by the time of ``model(x)`` under ``torch.inference_mode`` on the
same model and batch. Calls alternate (plain, ours, peer, plain, …), and the median over the repeats is given. Networks
have random weights, whose run time is that of trained ones.
"""

import contextlib
import gc
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor, nn

import saywhy
from research.options import Out, Repeats
from saywhy.io.atomic import atomic_write

CONSOLE = Console(stderr=True)
METHODS = [
    "gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "gradcam-elementwise", "eigencam", "eigengradcam",
]  # fmt: skip
"""Eight methods that need one pass."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    what: str
    who: str
    ratio: str
    goal: str = ""


@dataclass(frozen=True)
class Network:
    """A network to explain, with the layer and the reshape function that other packages need."""

    name: str
    layer: str
    reshape: Callable[[Tensor], Tensor] | None = None

    def build(self) -> nn.Module:
        """Build the network with random weights, also in the head (torchvision initialises a ViT's with zeros)."""
        from torchvision import models

        torch.manual_seed(0)
        module = models.get_model(self.name, weights=None).eval()
        for parameter in module.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return module


def _tokens(output: Tensor) -> Tensor:
    return output[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)


NETWORKS = (
    Network("resnet50", "layer4"),
    Network("vit_b_16", "encoder.layers.encoder_layer_11.ln_1", _tokens),
    Network("convnext_tiny", "features"),
)


def ratios(plain: Callable[[], object], calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return each call's time over the mean time of ``plain`` before and after it; the first repeat is a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            gc.collect()
            before, own, after = _seconds(plain), _seconds(call), _seconds(plain)
            if turn:
                found[name].append(2 * own / (before + after))
    return found


def peak_memory() -> float:
    """Return the peak resident memory of this process, in MB (Linux counts in kB, macOS in bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts from the parent's memory on Linux
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def reset_peak_memory() -> None:
    """Reset the peak memory counter of this process, where the system allows it (not on macOS)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def inference(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return module(x)

    return run


def formatted(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def gradcam(repeats: int) -> list[Row]:
    """Grad-CAM of the top class, at batch sizes 1 and 16."""
    rows = []
    for network in NETWORKS:
        module = network.build()
        for batch in (1, 16):
            x = torch.randn(batch, 3, 224, 224)
            calls = {"saywhy": lambda m=module, x=x: saywhy.explain(m, x, relu=False), **_peers(network, module, x)}
            for who, values in ratios(inference(module, x), calls, repeats).items():
                goal = "at most 1.05" if who == "saywhy" else ""
                rows.append(Row(f"Grad-CAM, {network.name}, batch {batch}", who, formatted(values), goal))
                CONSOLE.print(f"{rows[-1].what} | {rows[-1].who[:60]} | {rows[-1].ratio}")
    return rows


def _peers(network: Network, module: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """Grad-CAM of class 0 by every other package that supports this network, with the layer given."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import GradCAM as TorchGradCAM

    layer = module.get_submodule(network.layer)
    targets = [ClassifierOutputTarget(0)] * len(x)

    def grad_cam() -> object:
        with GradCAM(module, [layer], reshape_transform=network.reshape) as cam:
            return cam(x, targets)

    def torchcam() -> object:
        with TorchGradCAM(module, layer) as cam:
            return cam(0 if len(x) == 1 else [0] * len(x), module(x))

    def captum() -> object:
        return LayerGradCam(module, layer).attribute(x, target=0)

    calls: dict[str, Callable[[], object]] = {"pytorch-grad-cam": grad_cam}
    if network.reshape is None:  # torch-cam and captum give no Grad-CAM of tokens
        calls |= {"torch-cam": torchcam, "captum": captum}
    return calls


def many(repeats: int) -> list[Row]:
    """Eight methods of five classes; Grad-CAM of all thousand classes."""
    from pytorch_grad_cam import (
        EigenCAM,
        EigenGradCAM,
        GradCAM,
        GradCAMElementWise,
        GradCAMPlusPlus,
        HiResCAM,
        LayerCAM,
        XGradCAM,
    )
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = NETWORKS[0].build()
    x = torch.randn(1, 3, 224, 224)
    plain = inference(module, x)

    def peer() -> None:
        for kind in (
            GradCAM,
            GradCAMPlusPlus,
            HiResCAM,
            XGradCAM,
            LayerCAM,
            GradCAMElementWise,
            EigenCAM,
            EigenGradCAM,
        ):
            for index in range(5):
                with kind(module, [module.layer4]) as cam:
                    cam(x, [ClassifierOutputTarget(index)])

    five = list(range(5))
    thousand = list(range(1000))
    ours = {
        "eight": lambda: saywhy.explain(module, x, five, METHODS, relu=False),
        "thousand": lambda: saywhy.explain(module, x, thousand, relu=False),
    }
    found = ratios(plain, ours, repeats) | ratios(plain, {"peer": peer}, 1)
    return [
        Row("8 methods × 5 classes, resnet50", "saywhy", formatted(found["eight"]), "at most 1.6"),
        Row("8 methods × 5 classes, resnet50", "pytorch-grad-cam", formatted(found["peer"])),
        Row("Grad-CAM of 1,000 classes, resnet50", "saywhy", formatted(found["thousand"]), "at most 4"),
    ]


def fast(repeats: int) -> list[Row]:
    """``precision="fast"`` against a plain pass of the unchanged model."""
    rows = []
    for network in NETWORKS:
        module = network.build()
        for batch, goal in ((1, "at most 0.5"), (16, "at most 0.35")):
            x = torch.randn(batch, 3, 224, 224)
            first = saywhy.explain(module, x, relu=False, precision="fast")
            precision = next(d for d in first.diagnostics["gradcam", first.layers[0]][0][0] if d.name == "precision")
            calls = {"saywhy": lambda m=module, x=x: saywhy.explain(m, x, relu=False, precision="fast")}
            values = ratios(inference(module, x), calls, repeats)["saywhy"]
            rows.append(
                Row(f"precision='fast', {network.name}, batch {batch}", precision.text, formatted(values), goal)
            )
            CONSOLE.print(f"{rows[-1].what} | {rows[-1].who[:60]} | {rows[-1].ratio}")
    return rows


def start(repeats: int) -> list[Row]:
    """Seconds that ``import saywhy`` adds to ``import torch``, in alternating fresh processes."""
    alone, both = [], []
    for _ in range(max(repeats, 5)):
        alone.append(_import("import torch"))
        both.append(_import("import torch, saywhy"))
    extra = median(b - a for a, b in zip(alone, both, strict=True))
    return [
        Row("import saywhy, beyond import torch", "saywhy", f"{extra:.2f} s of {median(both):.2f} s", "at most 0.15 s")
    ]


def _import(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def memory(_repeats: int, count: int = 10_000) -> list[Row]:
    """Growth of resident memory over ten thousand explanations in one process, and hooks left on the network."""
    import psutil

    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
    module = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    process = psutil.Process()

    def resident() -> float:
        gc.collect()
        return process.memory_info().rss / 2**20

    for _ in range(500):  # allocations that happen once are no leak
        saywhy.explain(module, torch.randn(1, 3, 32, 32), relu=False)
    before = resident()
    for _ in range(count):
        saywhy.explain(module, torch.randn(1, 3, 32, 32), relu=False)
    grown = resident() - before
    hooks = sum(len(m._forward_hooks) for m in module.modules())
    return [
        Row(
            f"{count:,} explanations in one process",
            "saywhy",
            f"{grown:+.1f} MB, {hooks} hooks left",
            "under 20 MB, 0 hooks",
        )
    ]


PARTS = {"start": start, "memory": memory, "gradcam": gradcam, "many": many, "fast": fast}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = [
        "# Cost",
        "",
        f"Made by `python -m research.benchmarks.cost` ({repeats} repeats) on {machine()}.",
        "Ratios to one plain `inference_mode` pass of the same model and batch in the same run, median (lowest to",
        "highest). Networks are those of torchvision with random weights, at 224 × 224 pixels.",
        "",
        "| what | package | measured | goal |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {r.what} | {r.who} | {r.ratio} | {r.goal} |" for r in rows), ""])


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device} ({platform.machine()}, {capability}), torch {torch.__version__}"


def report(
    parts: dict[str, Callable[[int], list[Row]]],
    only: list[str] | None,
    repeats: int,
    page: Callable[[list[Row], int], str],
    out: Path | None,
) -> None:
    """Measure the chosen parts, print their page, and write it to ``out`` if given."""
    warnings.simplefilter("ignore")
    rows = []
    for name in only or parts:
        CONSOLE.rule(name)
        rows += parts[name](repeats)
    text = page(rows, repeats)
    print(text)
    if out is not None:
        with atomic_write(out) as temporary:
            temporary.write_text(text, encoding="utf-8")


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 7,
    out: Out = None,
) -> None:
    """Measure the cost of explanations."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
