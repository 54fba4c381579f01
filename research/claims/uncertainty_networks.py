"""Networks with uncertainty estimates: U-CAM, the base network, and controls.

They use the trunk and the question encoder of ``toybox:vqa``; attention and classifier are trained. All networks of a
seed start from the same network, pretrained on answers alone, and see the same questions in the same order, for the
same number of steps.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import saywhy
from research.claims.attention_network import AttentionVQAHead, VisualFeatures, initialized_head
from saywhy.io.atomic import atomic_write
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.recipes.ucam import Questions, optimizers, vqa_loss
from saywhy.training.loop import Plan, optimize
from saywhy.uncertainty import UCAM, Gate
from saywhy.uncertainty.loss import cross_entropy

FOLDER = Path("out/claims")
PRETRAINING, STEPS = 1000, 400
"""Pretraining steps, common to all networks of a seed, and further steps of each."""

STRENGTH = 0.1
"""Strength of the gradient surgery."""

PRIOR: dict[str, Any] = {"udl": "none", "gce": "log_mean_exp", "ve": "kl"}
"""The terms of Kendall and Gal's loss with a prior on the variance, under which it does not collapse."""

RUNS: dict[str, UCAM | None] = {
    "base": None,
    "no surgery": UCAM(gate=Gate(0.0)),
    "U-CAM": UCAM(gate=Gate(STRENGTH)),
    "literal": UCAM(gate=Gate(STRENGTH, "literal")),
    "shuffled": UCAM(gate=Gate(STRENGTH, "shuffled")),
    "random": UCAM(gate=Gate(STRENGTH, "random")),
    "answer": UCAM(gate=Gate(STRENGTH, "answer")),
    "additive": UCAM(udl="additive", gate=Gate(STRENGTH)),
    "P-GCA": UCAM("predictive", gate=Gate(STRENGTH)),
    "ten times": UCAM(gate=Gate(10 * STRENGTH)),
    "entropy mask": UCAM(certainty="entropy", gate=Gate(STRENGTH)),
    "distortion mask": UCAM(certainty="distortion", gate=Gate(STRENGTH)),
    "no equaliser": UCAM(ve="none", gate=Gate(STRENGTH)),
    "prior": UCAM(**PRIOR, gate=Gate(STRENGTH)),
    "prior no surgery": UCAM(**PRIOR, gate=Gate(0.0)),
    "prior answer": UCAM(**PRIOR, gate=Gate(STRENGTH, "answer")),
}
"""The training of each run by name; the base is trained on answers alone."""

CONTROLS = ("no surgery", "shuffled", "random", "answer")
"""The controls that U-CAM must surpass besides the base: without mask, or with masks independent of uncertainty.

A uniform mask is none: its mean is subtracted, so that it changes nothing.
"""

PRIOR_CONTROLS = ("prior no surgery", "prior answer")
"""Those of the run with a prior on the variance."""

PLAN = Plan((), batch=32, rate=2e-3, clip=5.0)
FURTHER = Plan((), batch=32, rate=5e-4, clip=5.0)
"""The plan of pretraining, and that of further training."""


class AttentionLearner(nn.Module):
    """A head with the loss of its run, for training."""

    def __init__(self, head: AttentionVQAHead, how: UCAM | None) -> None:
        super().__init__()
        self.head, self.how = head, how

    def forward(self, features: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of a batch of questions."""
        if self.how is not None:
            return self.how.vqa_loss(self.head, features, words, shares)
        return cross_entropy(self.head(features, words).logits, shares).mean()


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network of a run.

    Attributes:
        run, seed: name of the run, and seed.
        head: the head, called with features and words.
        seconds: the seconds of its training.
    """

    run: str
    seed: int
    head: AttentionVQAHead
    seconds: float

    def model(self, visual: VisualFeatures) -> saywhy.Model:
        """Return the whole network, of images and questions."""
        return saywhy.load(VQAModel(visual, self.head), labels=ANSWERS)


def run_name(run: str, seed: int, items: float, scenes: int) -> str:
    """Return the file name of a run, which is unique for its settings."""
    settings = f"{PLAN.settings()} {FURTHER.settings()} {PRETRAINING} {STEPS} {RUNS.get(run)!r} {items} {scenes}"
    return f"{run.lower().replace(' ', '-')}-{seed}-{sha256(settings.encode()).hexdigest()[:8]}"


def pretrained_head(seed: int, base: VQAModel, questions: Questions, items: float = 1.0) -> AttentionVQAHead:
    """Return the head pretrained on answers alone, trained first unless stored."""
    head = initialized_head(seed, base, questions.features.shape[1])
    file = FOLDER / f"{run_name('begun', seed, items, len(questions))}.safetensors"
    _train(head, None, replace(PLAN, seed=seed), int(items * PRETRAINING), questions, file)
    return head


def trained_network(run: str, seed: int, base: VQAModel, questions: Questions, items: float = 1.0) -> TrainedNetwork:
    """Return the network of a run, trained first unless stored; ``items`` below 1 reduces the steps."""
    head, plan = pretrained_head(seed, base, questions, items), replace(FURTHER, seed=seed + 1000)
    file = FOLDER / f"uncertainty-{run_name(run, seed, items, len(questions))}.safetensors"
    seconds = _train(head, RUNS[run], plan, int(items * STEPS), questions, file)
    return TrainedNetwork(run, seed, head.eval(), seconds)


def _train(head: AttentionVQAHead, how: UCAM | None, plan: Plan, steps: int, questions: Questions, file: Path) -> float:
    """Train a head, or load its stored weights; return the seconds of the training."""
    parameters = " ".join(f"{name} {list(tensor.shape)}" for name, tensor in head.state_dict().items())
    file = file.with_stem(f"{file.stem}-{sha256(parameters.encode()).hexdigest()[:4]}")  # of another head: other file
    if file.exists():
        head.load_state_dict(load_file(file))
        with safe_open(file, "pt") as kept:
            return float(kept.metadata()["seconds"])
    settings = {**plan.settings(), "ucam": repr(how), "steps": steps, "scenes": len(questions)}
    checkpoint = file.with_suffix(".checkpoint")
    seconds = optimize(
        AttentionLearner(head, how), vqa_loss(questions, plan), steps, plan, settings, checkpoint, optimizers=optimizers
    )
    weights = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    with atomic_write(file) as temporary:
        save_file(weights, temporary, {"seconds": f"{seconds:.1f}"})
    checkpoint.unlink(missing_ok=True)
    return seconds
