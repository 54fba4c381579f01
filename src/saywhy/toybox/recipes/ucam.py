"""The recipe of ``toybox:ucam``: ``python -m saywhy.toybox.recipes.ucam --out weights.safetensors``.

``toybox:vqa`` learns to say how certain it is (U-CAM, variant A-GCA). Its eyes stay as they are; what answers learns
on, with dropout and a variance head, on clear images and on blurred ones about which people disagree, and is told
what share of the people gave each answer.
"""

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from jaxtyping import Float, Int
from rich.progress import Progress
from torch import Tensor, nn

from saywhy.metrics.calibration import auroc, risk_coverage
from saywhy.models import load
from saywhy.models.uncertainty_reference import RiskCoverageCurve, UncertaintyReference
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAHead
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.models.language import ToyboxTrunk, variance_vqa_head
from saywhy.toybox.recipes.language_tensors import Talk, followed
from saywhy.toybox.recipes.vqa import drawn, seen
from saywhy.training.checkpoint import check_name, half, save_weights
from saywhy.training.command import Accelerator, Count, Threads, run_recipe
from saywhy.training.loop import HERE, Devices, Loss, Plan, Tell, optimize
from saywhy.uncertainty import UCAM, Gate, MCDropout, Uncertainty
from saywhy.uncertainty.estimate import of_output

SCENES = 4_000
"""Of clear ones and of blurred ones."""

TEST_SCENES = 1_000
STEPS = 1_500
GUESSES = 50

EVERY = 100
"""Steps from one checkpoint to the next."""

SPREAD_RATE = 1e-2
"""Of the variance head, which has an optimizer of its own (SGD). The released program takes 2e-4 for some hundred times
as many steps."""

KINDS = ("total", "aleatoric", "epistemic", "aleatoric_variance")
"""Of uncertainty, as :class:`saywhy.uncertainty.Uncertainty` has them."""

RISK = 0.05
"""So many of the answers that are given may be wrong, at most."""

PLAN = Plan((), batch=48, rate=5e-4, clip=5.0)
HOW = UCAM(gate=Gate(strength=0.1))
"""Stronger surgery costs answers (docs/claims-ucam.md)."""


class Questions:
    """Questions of scenes with the features of their images, as training and measuring take them.

    Args:
        network: with eyes (``trunk``), which are asked once.
        talks: scenes of one split or several.
        known: the words.
    """

    def __init__(self, eyes: ToyboxTrunk, talks: list[Talk], known: Vocabulary) -> None:
        pairs = [talk.questions(known) for talk in talks]
        longest = max(words.shape[2] for words, _ in pairs)
        self.words: Int[Tensor, "scene type word"] = torch.cat(
            [torch.nn.functional.pad(words, (0, longest - words.shape[2])) for words, _ in pairs]
        )
        self.answers: Int[Tensor, "scene type"] = torch.cat([answers for _, answers in pairs])
        self.shares: Float[Tensor, "scene type answer"] = torch.cat([talk.shares() for talk in talks])
        with torch.inference_mode():
            depths = torch.cat([seen(eyes, talk.images) for talk in talks])
            self.features = torch.cat([eyes.features(part.float()).half() for part in depths.split(100)])

    def __len__(self) -> int:
        return len(self.answers)


class Learner(nn.Module):
    """What learns: the answers and the variance head."""

    def __init__(self, head: VQAHead, how: UCAM) -> None:
        super().__init__()
        self.head, self.how = head, how

    def forward(self, features: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        """The loss of some questions, whose backward pass is altered."""
        return self.how.vqa_loss(self.head, features, words, shares)


def optimizers(network: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """AdamW for what answers, and SGD for the variance head."""
    apart = list(network.head.variance_head.parameters())  # type: ignore[union-attr]
    rest = [p for p in network.parameters() if p.requires_grad and all(p is not one for one in apart)]
    return [
        torch.optim.AdamW(rest, lr=plan.rate, weight_decay=plan.decay),
        torch.optim.SGD(apart, lr=SPREAD_RATE),
    ]


def asking(questions: Questions, plan: Plan) -> Loss:
    """The loss of a step, of whatever gives one for features, words and shares of answers."""

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = drawn(questions.answers, plan, step, share)
        scenes = taken[which]
        value: Tensor = model(
            questions.features[taken].float()[which], questions.words[scenes, types], questions.shares[scenes, types]
        )
        return value

    return loss


def learn(
    head: VQAHead,
    questions: Questions,
    plan: Plan,
    steps: int,
    how: UCAM = HOW,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    devices: Devices = HERE,
) -> float:
    """Train what answers, in place, and return the seconds; see :func:`saywhy.training.loop.optimize`."""
    settings = {**plan.settings(), "scenes": len(questions), "steps": steps, "how": repr(how)}
    seconds = optimize(
        Learner(head, how),
        asking(questions, plan),
        steps,
        plan,
        settings,
        checkpoint,
        EVERY,
        report,
        devices,
        optimizers,
    )
    head.eval()
    return seconds


class Judged:
    """Answers to questions, with their uncertainties.

    Attributes:
        found: the uncertainties of all questions, one after the other.
        right: which of them were answered rightly, by the mean of all guesses.
        scenes, types: their scenes, counted from 0, and their types.

    Args:
        head: what answers.
        questions: of a split.
        num_samples: how many Monte Carlo samples; of one, dropout is silent.
        seed: of the guesses.
    """

    def __init__(
        self,
        head: VQAHead,
        questions: Questions,
        num_samples: int = GUESSES,
        seed: int = 0,
    ) -> None:
        asked = (questions.answers >= 0).nonzero()
        model = load(MCDropout(head, num_samples, seed) if num_samples > 1 else head)
        parts = []
        with torch.inference_mode():
            for scenes, types in (part.unbind(1) for part in asked.split(200)):
                output = model.module(questions.features[scenes].float(), questions.words[scenes, types])
                parts.append(of_output(output, len(scenes), model))
        self.found = joined(parts)
        self.right = self.found.probabilities.argmax(1) == questions.answers[asked[:, 0], asked[:, 1]]
        self.scenes, self.types = asked.unbind(1)

    @property
    def accuracy(self) -> float:
        """The share of questions that were answered rightly."""
        return float(self.right.double().mean())


def joined(parts: list[Uncertainty]) -> Uncertainty:
    """Several batches as one."""
    each = {name: [getattr(part, name) for part in parts] for name in vars(parts[0]) if name != "num_samples"}
    whole = {name: None if any(v is None for v in values) else torch.cat(values) for name, values in each.items()}
    return Uncertainty(num_samples=parts[0].num_samples, **whole)  # type: ignore[arg-type]


def measured(head: VQAHead, asked: Callable[[str], Questions], tests: int) -> dict[str, str]:
    """How good what answers is, how well it knows when it is wrong, and what is usual: the metadata of its weights.

    Args:
        head: with the weights that are shipped.
        asked: the questions of a split.
        tests: of so many scenes.
    """
    clear, blurred, chosen = (Judged(head, asked(split)) for split in ("talk-test", "ambiguous-test", "ambiguous-val"))
    limit = risk_coverage(chosen.found.total, ~chosen.right).limit(RISK)
    curve = risk_coverage(blurred.found.total, ~blurred.right)
    kept = blurred.found.total <= limit
    accuracies = {"talk-test": round(clear.accuracy, 4), "ambiguous-test": round(blurred.accuracy, 4)}
    usual = {kind: getattr(clear.found, kind) for kind in KINDS}
    risks = RiskCoverageCurve.of(curve.risk, curve.uncertainty, "ambiguous-test")
    return {
        "test_scenes": str(tests),
        "test_accuracy": json.dumps(accuracies),
        "test_auroc": json.dumps(
            {kind: round(auroc(getattr(blurred.found, kind), ~blurred.right), 4) for kind in KINDS}
        ),
        "answered": f"{float(kept.double().mean()):.4f}",
        "answered_accuracy": f"{float(blurred.right[kept].double().mean()):.4f}",
        "reference": UncertaintyReference.of(usual, limit, RISK, "ambiguous-val", risks, "talk-test").text(),
    }


def train(
    out: Path, seed: int, scenes: int, tests: int, steps: int, progress: Progress, devices: Devices
) -> dict[str, str]:
    """Draw, train, measure and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    base = load("toybox:vqa")
    known: Vocabulary = base.texts["question"].__self__  # type: ignore[attr-defined]
    eyes: ToyboxTrunk = base.module.trunk  # type: ignore[assignment]

    def asked(splits: tuple[str, ...], count: int) -> Questions:
        return Questions(eyes, [followed(split, count, progress) for split in splits], known)

    shown = asked(("talk-train", "ambiguous-train"), scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = variance_vqa_head(len(known), len(ANSWERS))
    head.load_state_dict(base.module.head.state_dict(), strict=False)  # type: ignore[union-attr]
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    bar, drawing = progress.add_task("training", total=steps, loss=""), perf_counter() - begin
    trained = learn(
        head,
        shown,
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(head.state_dict())
    head.load_state_dict(weights)  # what is measured is what is shipped: float16
    base_weights = {f"trunk.{name}": value for name, value in half(eyes.state_dict()).items()}
    metadata = {
        "model": "toybox:ucam",
        "words": "\n".join(known.words),
        "answers": ",".join(ANSWERS),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(2 * scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "how": repr(HOW),
        **measured(head, lambda split: asked((split,), tests), tests),
    }
    save_weights(out, base_weights | {f"head.{name}": value for name, value in weights.items()}, metadata)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return metadata


def main(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Decides first weights and order.")] = 0,
    scenes: Annotated[
        int, typer.Option(min=64, help="Scenes to train on, clear ones and as many blurred ones.")
    ] = SCENES,
    tests: Annotated[int, typer.Option(min=50, help="Scenes to measure on.")] = TEST_SCENES,
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = STEPS,
    threads: Threads = 2,
    accelerator: Accelerator = "cpu",
    devices: Count = 1,
) -> None:
    """Teach what answers questions about Toybox how certain it is. Stop it with Ctrl-C; the same command goes on."""
    on = Devices(accelerator, devices)
    run_recipe(
        lambda progress: train(out, seed, scenes, tests, steps, progress, on), threads, hidden=("words", "reference")
    )


if __name__ == "__main__":
    typer.run(main)
