"""Cost of uncertainty: fifty MC dropout samples against one pass, a training step of U-CAM against one of its base.

    python -m research.benchmarks.certainty
    python -m research.benchmarks.certainty --out docs/benchmarks-certainty.md

Measured as in ``research.benchmarks.cost``: alternating, as ratios to one pass (or training step) of the same network.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from research.benchmarks.cost import CONSOLE, Row, formatted, machine, ratios, report
from research.options import Out, Repeats
from saywhy.engine.preserve import preserve_state
from saywhy.tasks.vqa.networks import ShowAskAttendAnswer, StackedAttention, VQAHead, VQAModel
from saywhy.uncertainty import UCAM, Gate, MCDropout
from saywhy.uncertainty.loss import cross_entropy
from saywhy.uncertainty.variance_head import VarianceHead

SAMPLES = 50
WORDS, ANSWERS, LENGTH = 10_000, 3_000, 14
BATCH = 32
"""Number of questions in a training step."""


def _classifiers() -> dict[str, nn.Module]:
    from torchvision import models

    torch.manual_seed(0)
    resnet = models.resnet50(weights=None)
    resnet.fc = nn.Sequential(nn.Dropout(0.5), resnet.fc)
    return {
        "ResNet-50, dropout before its last layer": resnet.eval(),
        "VGG-16": models.vgg16(weights=None).eval(),
        "SqueezeNet 1.1": models.squeezenet1_1(weights=None).eval(),
    }


def _vqa_heads() -> dict[str, VQAHead]:
    torch.manual_seed(0)
    found: dict[str, VQAHead] = {
        "glimpses (SAAA)": ShowAskAttendAnswer(2048, WORDS, ANSWERS),
        "glimpses, compact bilinear": ShowAskAttendAnswer(2048, WORDS, ANSWERS, fusion="mcb", attended=2048),
        "stacked attention (SAN)": StackedAttention(2048, WORDS, ANSWERS),
    }
    for head in found.values():
        head.variance_head = VarianceHead(ANSWERS)
    return found


def samples(repeats: int) -> list[Row]:
    """Fifty MC dropout samples for one image, by saywhy and by calling the network fifty times."""
    rows = []
    for name, network in _classifiers().items():
        x = torch.randn(1, 3, 224, 224)
        rows += _sampling_rows(name, network, (x,), repeats)
    from torchvision import models

    trunk = nn.Sequential(*list(models.resnet50(weights=None).children())[:-2])
    question = torch.randint(4, WORDS, (1, LENGTH))
    for name, head in _vqa_heads().items():
        network = VQAModel(trunk, head).eval()
        rows += _sampling_rows(f"ResNet-50 and {name}", network, (torch.randn(1, 3, 448, 448), question), repeats)
    return rows


def _sampling_rows(name: str, network: nn.Module, inputs: tuple[Tensor, ...], repeats: int) -> list[Row]:
    sampler = MCDropout(network, SAMPLES)
    calls = {"saywhy": partial(_single_pass, sampler, inputs), "a loop": partial(_loop, network, inputs)}
    found = ratios(partial(_single_pass, network, inputs), calls, repeats)
    rows = []
    for who, values in found.items():
        rows.append(
            Row(
                f"{SAMPLES} MC dropout samples, {name}", who, formatted(values), "at most 15" if who == "saywhy" else ""
            )
        )
        CONSOLE.print(f"{rows[-1].what} | {who} | {rows[-1].ratio}")
    return rows


def _single_pass(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad(), preserve_state(network):
        network(*inputs)


def _loop(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        for part in network.modules():
            part.training = isinstance(part, nn.Dropout)
        for _ in range(SAMPLES):
            network(*inputs)
        network.eval()


def steps(repeats: int) -> list[Row]:
    """A training step of U-CAM's answering head on precomputed features, against one of the base network."""
    rows = []
    features, question = torch.rand(BATCH, 2048, 14, 14), torch.randint(4, WORDS, (BATCH, LENGTH))
    answers = torch.randint(ANSWERS, (BATCH,))
    for name, head in _vqa_heads().items():
        head.train()

        def base(head: VQAHead = head) -> None:
            _step(head, lambda: cross_entropy(head(features, question).logits, answers).mean())

        calls: dict[str, Callable[[], object]] = {}
        for kind, how in {
            "A-GCA, at the logits": UCAM(),
            "A-GCA, at the weighted features": UCAM(gate=Gate(at="weighted")),
            "P-GCA": UCAM("predictive"),
        }.items():
            calls[kind] = partial(_step, head, partial(how.vqa_loss, head, features, question, answers))
        for kind, values in ratios(base, calls, repeats).items():
            rows.append(Row(f"a training step, {name}", kind, formatted(values), "at most 2.5"))
            CONSOLE.print(f"{rows[-1].what} | {kind} | {rows[-1].ratio}")
    return rows


def _step(network: nn.Module, loss: Callable[[], Tensor]) -> None:
    network.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]


PARTS = {"samples": samples, "steps": steps}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = "\n".join(f"| {row.what} | {row.who} | {row.ratio} | {row.goal} |" for row in rows)
    return f"""# Cost of uncertainty

Made by `python -m research.benchmarks.certainty` ({repeats} repeats) on {machine()}.
Ratios, median (lowest to highest). MC dropout is compared with one pass of the same network on the same input. A
training step is compared with a training step (forward and backward) of the base network, on {BATCH} questions, image
features of shape [2048, 14, 14] and {ANSWERS:,} answers.

| what | how | ratio | goal |
| --- | --- | --- | --- |
{lines}
"""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 3,
    out: Out = None,
) -> None:
    """Measure the cost of uncertainty estimates."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
