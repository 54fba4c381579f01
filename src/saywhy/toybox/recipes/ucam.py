"""The recipe of ``toybox:ucam``: ``python -m saywhy.toybox.recipes.ucam --out weights.safetensors``.

``toybox:vqa`` learns uncertainty estimation (U-CAM, variant A-GCA). Its visual trunk is frozen. Its VQA head is trained
with dropout and a variance head, on clear images and on blurred ones about which annotators disagree; the targets are
the shares of annotators who gave each answer.
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
from saywhy.toybox.models.vision_language import ToyboxTrunk, variance_vqa_head
from saywhy.toybox.recipes.language_data import LanguageData, draw_language_data
from saywhy.toybox.recipes.vqa import frozen_features, sample_questions
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Loss, Plan, Tell, optimize
from saywhy.uncertainty import UCAM, Gate, MCDropout, Uncertainty
from saywhy.uncertainty.estimate import of_output

SCENES = 4_000
"""Training scenes of each kind, clear and blurred."""

TEST_SCENES = 1_000
STEPS = 1_500
MC_SAMPLES = 50

EVERY = 100
"""Steps from one checkpoint to the next."""

VARIANCE_HEAD_RATE = 1e-2
"""Learning rate of the variance head, which has its own optimizer (SGD). The released code uses 2e-4 for about a
hundred times as many steps."""

KINDS = ("total", "aleatoric", "epistemic", "aleatoric_variance")
"""Kinds of uncertainty, the attributes of :class:`saywhy.uncertainty.Uncertainty`."""

RISK = 0.05
"""The maximum share of wrong answers among the given ones (selective risk)."""

PLAN = Plan((), batch=48, rate=5e-4, clip=5.0)
UCAM_SETTINGS = UCAM(gate=Gate(strength=0.1))
"""A stronger gradient gate costs accuracy (docs/claims-ucam.md)."""


class Questions:
    """Questions of scenes with the features of their images, for training and evaluation.

    Args:
        trunk: the frozen visual trunk, which is run once.
        data: scenes of one or several splits.
        known: the vocabulary.
    """

    def __init__(self, trunk: ToyboxTrunk, data: list[LanguageData], known: Vocabulary) -> None:
        pairs = [part.questions(known) for part in data]
        longest = max(words.shape[2] for words, _ in pairs)
        self.words: Int[Tensor, "scene type word"] = torch.cat(
            [torch.nn.functional.pad(words, (0, longest - words.shape[2])) for words, _ in pairs]
        )
        self.answers: Int[Tensor, "scene type"] = torch.cat([answers for _, answers in pairs])
        self.shares: Float[Tensor, "scene type answer"] = torch.cat([part.shares() for part in data])
        with torch.inference_mode():
            depths = torch.cat([frozen_features(trunk, part.images) for part in data])
            self.features = torch.cat([trunk.features(part.float()).half() for part in depths.split(100)])

    def __len__(self) -> int:
        return len(self.answers)


class UCAMLearner(nn.Module):
    """The trained part: the VQA head with its variance head."""

    def __init__(self, head: VQAHead, how: UCAM) -> None:
        super().__init__()
        self.head, self.how = head, how

    def forward(self, features: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of questions; U-CAM modifies its gradients."""
        return self.how.vqa_loss(self.head, features, words, shares)


def optimizers(network: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return AdamW for the VQA head, and SGD for its variance head."""
    variance_head = list(network.head.variance_head.parameters())  # type: ignore[union-attr]
    rest = [p for p in network.parameters() if p.requires_grad and all(p is not one for one in variance_head)]
    return [
        torch.optim.AdamW(rest, lr=plan.rate, weight_decay=plan.decay),
        torch.optim.SGD(variance_head, lr=VARIANCE_HEAD_RATE),
    ]


def vqa_loss(questions: Questions, plan: Plan) -> Loss:
    """Return the loss function of a step, for a model that maps features, words and shares of answers to a loss."""

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = sample_questions(questions.answers, plan, step, share)
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
    how: UCAM = UCAM_SETTINGS,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    devices: Devices = HERE,
) -> float:
    """Train the VQA head in place; returns the seconds. See :func:`saywhy.training.loop.optimize`."""
    settings = {**plan.settings(), "scenes": len(questions), "steps": steps, "ucam": repr(how)}
    seconds = optimize(
        UCAMLearner(head, how),
        vqa_loss(questions, plan),
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


class UncertaintyResults:
    """Evaluated answers to questions, with their uncertainties.

    Attributes:
        found: the uncertainties of all questions.
        right: which questions were answered rightly, by the mean of all Monte Carlo samples.
        scenes, types: their scenes, counted from 0, and their types.

    Args:
        head: the VQA head.
        questions: of a split.
        num_samples: number of Monte Carlo samples; 1 runs without dropout.
        seed: of the Monte Carlo samples.
    """

    def __init__(
        self,
        head: VQAHead,
        questions: Questions,
        num_samples: int = MC_SAMPLES,
        seed: int = 0,
    ) -> None:
        indices = (questions.answers >= 0).nonzero()
        model = load(MCDropout(head, num_samples, seed) if num_samples > 1 else head)
        parts = []
        with torch.inference_mode():
            for scenes, types in (part.unbind(1) for part in indices.split(200)):
                output = model.module(questions.features[scenes].float(), questions.words[scenes, types])
                parts.append(of_output(output, len(scenes), model))
        self.found = concatenate(parts)
        self.right = self.found.probabilities.argmax(1) == questions.answers[indices[:, 0], indices[:, 1]]
        self.scenes, self.types = indices.unbind(1)

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.double().mean())


def concatenate(parts: list[Uncertainty]) -> Uncertainty:
    """Concatenate the uncertainties of several batches."""
    each = {name: [getattr(part, name) for part in parts] for name in vars(parts[0]) if name != "num_samples"}
    whole = {name: None if any(v is None for v in values) else torch.cat(values) for name, values in each.items()}
    return Uncertainty(num_samples=parts[0].num_samples, **whole)  # type: ignore[arg-type]


def evaluation_metadata(head: VQAHead, questions_of: Callable[[str], Questions], tests: int) -> dict[str, str]:
    """Return the metadata of the weights: accuracy, AUROC of the uncertainties, and their reference values.

    Args:
        head: with the weights that are shipped.
        questions_of: returns the questions of a split.
        tests: the number of scenes.
    """
    clear, blurred, validation = (
        UncertaintyResults(head, questions_of(split)) for split in ("talk-test", "ambiguous-test", "ambiguous-val")
    )
    limit = risk_coverage(validation.found.total, ~validation.right).limit(RISK)
    curve = risk_coverage(blurred.found.total, ~blurred.right)
    kept = blurred.found.total <= limit
    accuracies = {"talk-test": round(clear.accuracy, 4), "ambiguous-test": round(blurred.accuracy, 4)}
    typical = {kind: getattr(clear.found, kind) for kind in KINDS}
    risks = RiskCoverageCurve.of(curve.risk, curve.uncertainty, "ambiguous-test")
    return {
        "test_scenes": str(tests),
        "test_accuracy": json.dumps(accuracies),
        "test_auroc": json.dumps(
            {kind: round(auroc(getattr(blurred.found, kind), ~blurred.right), 4) for kind in KINDS}
        ),
        "test_coverage": f"{float(kept.double().mean()):.4f}",
        "test_selective_accuracy": f"{float(blurred.right[kept].double().mean()):.4f}",
        "reference": UncertaintyReference.of(typical, limit, RISK, "ambiguous-val", risks, "talk-test").text(),
    }


def train(
    out: Path, seed: int, scenes: int, tests: int, steps: int, progress: Progress, devices: Devices
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    base = load("toybox:vqa")
    known: Vocabulary = base.texts["question"].__self__  # type: ignore[attr-defined]
    trunk: ToyboxTrunk = base.module.trunk  # type: ignore[assignment]

    def questions_of(splits: tuple[str, ...], count: int) -> Questions:
        return Questions(trunk, [draw_language_data(split, count, progress) for split in splits], known)

    training = questions_of(("talk-train", "ambiguous-train"), scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = variance_vqa_head(len(known), len(ANSWERS))
    head.load_state_dict(base.module.head.state_dict(), strict=False)  # type: ignore[union-attr]
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    bar, drawing = progress.add_task("training", total=steps, loss=""), perf_counter() - begin
    trained = learn(
        head,
        training,
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(head.state_dict())
    head.load_state_dict(weights)  # evaluate the shipped precision, float16
    base_weights = {f"trunk.{name}": value for name, value in half(trunk.state_dict()).items()}
    metadata = {
        "model": "toybox:ucam",
        "words": "\n".join(known.words),
        "answers": ",".join(ANSWERS),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(2 * scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "ucam": repr(UCAM_SETTINGS),
        **evaluation_metadata(head, lambda split: questions_of((split,), tests), tests),
    }
    save_weights(out, base_weights | {f"head.{name}": value for name, value in weights.items()}, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def main(
    out: command.WeightsFile,
    seed: command.Seed = 0,
    scenes: Annotated[int, typer.Option(min=64, help="Number of clear training scenes, and of blurred ones.")] = SCENES,
    tests: command.TestScenes = TEST_SCENES,
    steps: command.TrainingSteps = STEPS,
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the VQA model of Toybox with uncertainty. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(
        lambda progress: train(out, seed, scenes, tests, steps, progress, on), threads, hidden=("words", "reference")
    )


if __name__ == "__main__":
    typer.run(main)
