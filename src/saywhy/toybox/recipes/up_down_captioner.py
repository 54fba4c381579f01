"""The recipe of the up-down captioner on regions of Toybox, the base model of HINT for captioning.

The network is :class:`saywhy.tasks.generation.networks.TopDown` (Anderson et al., 2018) on frozen region features. It
learns from ``biased-train``, where each kind is nearly always at its home, so that the same kinds occur together, and
is evaluated on ``biased-val``, which is alike, and on ``biased-test``, where no kind is at its home: a robust split as
that of Lu et al. (2018), on which HINT was evaluated.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from saywhy.tasks.generation.networks import TopDown
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import Scene
from saywhy.toybox.language.mentions import NOUNS, mentions
from saywhy.toybox.recipes.caption_regions import CaptionRegionData
from saywhy.toybox.recipes.region_data import REGION_CHANNELS
from saywhy.toybox.recipes.text_heads import describe
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator

HIDDEN = 96
STEPS = 600
"""Training steps: about two minutes on one core."""

PLAN = Plan((), batch=64, rate=3e-3, clip=1.0)


def fresh_up_down_captioner(seed: int, known: Vocabulary, hidden: int = HIDDEN) -> TopDown:
    """Return the network with random weights, for captions of regions of Toybox.

    >>> known = Vocabulary.of(["a red cat"])
    >>> sum(parameter.numel() for parameter in fresh_up_down_captioner(0, known).parameters())
    224232
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TopDown(REGION_CHANNELS, len(known), embedded=64, hidden=hidden, attended=64, dropout=0.2, padded=True)


def learn_up_down_captioner(
    network: TopDown,
    data: CaptionRegionData,
    plan: Plan = PLAN,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train the network in place on one caption of each of ``plan.batch`` scenes a step; returns the seconds.

    The loss is the cross entropy of a word. See :func:`saywhy.training.loop.optimize`.
    """

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        generator = step_generator(plan.seed, -1 - step)
        scenes = torch.randint(len(data), (plan.batch,), generator=generator)
        which = torch.randint(data.words.shape[1], (plan.batch,), generator=generator)
        words = data.words[scenes, which][share]
        words = words[:, : int((words != 0).sum(1).max())]
        value: Tensor = model(as_feature_maps(data.regions[scenes[share]]), words).cross_entropy()
        return value

    settings = {
        **plan.settings(),
        "scenes": len(data),
        "regions": data.regions.shape[1],
        "steps": steps,
        "weights": sum(parameter.numel() for parameter in network.parameters()),
    }
    return optimize(network, loss, steps, plan, settings, checkpoint, every, report, devices)


def caption_cross_entropy(network: TopDown, data: CaptionRegionData) -> float:
    """Return the mean cross entropy of the words of all captions, END included, in nats."""
    network.eval()
    captions = data.words.flatten(0, 1)
    lengths = (captions != 0).sum(1)
    total, count = 0.0, int((lengths + 1).sum())
    with torch.inference_mode():
        for part in lengths.argsort(stable=True).split(200):  # captions of like length, to compute little padding
            words = captions[part, : int(lengths[part].max())]
            part = part // data.words.shape[1]
            total -= float(network(as_feature_maps(data.regions[part]), words).log_probabilities().double().sum())
    return total / count


def generated_captions(network: TopDown, data: CaptionRegionData, known: Vocabulary) -> list[str]:
    """Return the caption of every scene that beam search generates."""
    return describe(network, as_feature_maps(data.regions), known)


def object_f1(texts: Iterable[str], scenes: Iterable[Scene]) -> float:
    """Return the F1 of the kinds that captions name, over all scenes, as SPICE compares objects alone.

    Precision is the share of named kinds that are there, recall the share of kinds there that are named; a kind counts
    once in a scene.

    >>> from saywhy.toybox import scene
    >>> round(object_f1(["a flower and a cat"], [scene("talk-test", 1)]), 4)  # there are apples, a flower and a guitar
    0.4
    """
    right = named = there = 0
    for text, drawn in zip(texts, scenes, strict=True):
        kinds = {NOUNS[mention.word] for mention in mentions(text, drawn) if mention.claim == "kind"}
        present = {thing.kind for thing in drawn.objects}
        right += len(kinds & present)
        named += len(kinds)
        there += len(present)
    return 2 * right / (named + there)
