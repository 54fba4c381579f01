"""The recipe of bottom-up and top-down attention (UpDn) on regions of Toybox, the base model of HINT and its critique.

The network learns from ``priors-train`` and is evaluated on ``priors-val``, which has the same frequent answers, and on
``priors-test``, where the others are frequent, as in VQA-CP (Agrawal et al., 2018). The region features are frozen.

The loss is the published one, the binary cross entropy of soft scores, and not a cross entropy: HINT differentiates the
logit of an answer, and its controls (the loss of scores of zero) are defined by this loss.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.up_down import UpDownDropout, UpDownVQA, answer_loss
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.recipes.region_data import REGION_CHANNELS, RegionData
from saywhy.toybox.recipes.vqa import accuracy_by_type, sample_questions
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize

HIDDEN, HEADS = 128, 2
STEPS = 500
"""Training steps: about a minute on one core."""

PLAN = Plan((), batch=32, rate=3e-3, clip=0.25)
"""32 scenes have about 110 questions; the clip is that of the critique's code, whose batch has 384 questions."""


class UpDownLearner(nn.Module):
    """The network and its loss."""

    def __init__(self, network: UpDownVQA) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor, words: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of questions about regions [question, region, channel]."""
        return answer_loss(self.network(as_feature_maps(regions), words).logits, scores)


def fresh_up_down(seed: int, known: Vocabulary, hidden: int = HIDDEN, heads: int = HEADS) -> UpDownVQA:
    """Return the network with random weights for questions about regions of Toybox.

    >>> known = Vocabulary.of(["is there a cat?"])
    >>> sum(parameter.numel() for parameter in fresh_up_down(0, known).parameters())
    220723
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dropout = UpDownDropout(words=0.0, attention=0.0, fusion=0.1, classifier=0.2)
        return UpDownVQA(REGION_CHANNELS, len(known), len(ANSWERS), 64, hidden, heads, dropout=dropout)


def learn_up_down(
    network: UpDownVQA,
    data: RegionData,
    plan: Plan = PLAN,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train the network in place; returns the seconds. See :func:`saywhy.training.loop.optimize`.

    A step takes at most five questions about each of ``plan.batch`` scenes.
    """

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = sample_questions(data.answers, plan, step, share)
        scenes = taken[which]
        value: Tensor = model(data.regions[scenes], data.words[scenes, types], data.scores[scenes, types])
        return value

    settings = {
        **plan.settings(),
        "scenes": len(data),
        "regions": data.regions.shape[1],
        "steps": steps,
        "weights": sum(parameter.numel() for parameter in network.parameters()),
    }
    seconds = optimize(UpDownLearner(network), loss, steps, plan, settings, checkpoint, every, report, devices)
    network.eval()
    return seconds


def up_down_accuracy(network: nn.Module, data: RegionData) -> dict[str, float]:
    """Return the accuracy "overall" and of every type of questions."""
    return accuracy_by_type(network, as_feature_maps(data.regions), data.words, data.answers)
