"""The runs of HINT's comparison on captions of Toybox's regions: what is trained, and what is measured."""

import copy
import json
import math
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from research.claims.language_networks import FOLDER
from saywhy.alignment.align import AlignmentSettings, align
from saywhy.alignment.controls import hints_of
from saywhy.alignment.importance import Importance, region_importance
from saywhy.alignment.region_methods import region_method
from saywhy.io.atomic import write_text
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.diversity import bleu
from saywhy.tasks.captioning.word_alignment import CaptionItems, word_output, word_task
from saywhy.tasks.generation.networks import TopDown
from saywhy.toybox import Scene, scene
from saywhy.toybox.recipes.caption_regions import CaptionRegionData, caption_region_data, caption_vocabulary
from saywhy.toybox.recipes.captioner import mention_accuracy_of
from saywhy.toybox.recipes.up_down_captioner import (
    PLAN,
    caption_cross_entropy,
    fresh_up_down_captioner,
    generated_captions,
    learn_up_down_captioner,
    object_f1,
)
from saywhy.training.checkpoint import save_weights
from saywhy.training.loop import Plan

SCENES, TESTS = 2_000, 200
"""Training scenes, and scenes of each of the two test sets."""

HINTED = 0.06
"""The share of training captions whose nouns have hints, as in the paper: one caption of 30 % of the scenes.

No scene has hints for two captions: their nouns name the same objects, so that hints permuted within an image would be
the right ones."""

BASE_STEPS, STEPS = 600, 100
"""Steps of the network that all runs of a seed begin with, and of each run."""

ALIGN_PLAN = Plan((), batch=32, rate=3e-4, decay=0.0, warmup=10, clip=0.25)
SETTINGS = AlignmentSettings(weight=2.0)

DELETED = 4
"""Regions that are deleted, of 24."""

CAPTIONS = 5
"""Captions of a scene."""

SPLITS = {"train": "biased-train", "val": "biased-val", "test": "biased-test"}


@cache
def data_of(split: str, count: int) -> CaptionRegionData:
    """The first scenes of a split."""
    return caption_region_data(split, count)


@cache
def scenes_of(split: str, count: int) -> tuple[Scene, ...]:
    """The same scenes, to compare captions with."""
    return tuple(scene(split, index) for index in range(count))


def base_network(seed: int, scenes: int, steps: int) -> TopDown:
    """The network that all runs of a seed begin with: trained on all captions, without hints; stored."""
    network = fresh_up_down_captioner(seed, caption_vocabulary())
    file = FOLDER / f"caption-hint-base-{scenes}-{steps}-{seed}.safetensors"
    if not file.exists():
        learn_up_down_captioner(network, data_of(SPLITS["train"], scenes), replace(PLAN, seed=seed), steps)
        save_weights(file, network.state_dict(), {"seed": str(seed), "steps": str(steps)})
    network.load_state_dict(load_file(file))
    return network.eval()


def train_base(seed: int, scenes: int, steps: int) -> None:
    """Train a base network, unless it is stored; for a process of its own."""
    base_network(seed, scenes, steps)


def run(name: str, seed: int, share: float) -> dict[str, Any]:
    """Measure one run: ``"base"`` or a method; stored, and measured again if its settings have changed.

    Args:
        name: of the method.
        seed: of the base network, of hints and order.
        share: of scenes and steps, for a quick run.
    """
    scenes, tests, steps, base_steps = (max(2, round(n * share)) for n in (SCENES, TESTS, STEPS, BASE_STEPS))
    counts = {"scenes": scenes, "tests": tests, "steps": steps, "base_steps": base_steps, "hinted": HINTED}
    settings = {**counts, **ALIGN_PLAN.settings(), **asdict(SETTINGS), "seed": seed}
    file = FOLDER / f"caption-hint-{name}-{scenes}-{seed}.json"
    if file.exists():
        stored: dict[str, Any] = json.loads(file.read_text())
        if stored["settings"] == settings:
            return stored
    network = copy.deepcopy(base_network(seed, scenes, base_steps))
    training = data_of(SPLITS["train"], scenes)
    if name != "base":
        _align(network, training, name, seed, steps)
    found: dict[str, Any] = {"run": name, "settings": settings}
    found["train"] = {"cross_entropy": caption_cross_entropy(network, _first(training, tests))}
    for split in ("val", "test"):
        data, drawn = data_of(SPLITS[split], tests), scenes_of(SPLITS[split], tests)
        found[split] = {**caption_quality(network, data, drawn), **grounding(network, data)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found))
    return found


def human_hints(data: CaptionRegionData) -> Importance:
    """The hints of all nouns; NaN but for one caption of some scenes."""
    generator = torch.Generator().manual_seed(17)
    some = torch.rand(len(data), generator=generator) < HINTED * CAPTIONS
    which = torch.randint(CAPTIONS, (len(data),), generator=generator)
    scenes, captions, _ = data.nouns.unbind(1)
    hinted = some[scenes] & (which[scenes] == captions)
    return torch.where(hinted.unsqueeze(1), data.importance, torch.nan)


def _align(network: TopDown, data: CaptionRegionData, name: str, seed: int, steps: int) -> None:
    method = region_method(name)
    items, boxes = data.items, data.boxes.float() / 128
    centres = ((boxes[..., :2] + boxes[..., 2:]) / 2)[items.images]
    hints = hints_of(
        method.hints, human_hints(data), images=items.images, centres=centres, oracle=data.importance, seed=seed
    )
    task = word_task(data.regions, items, len(caption_vocabulary()))
    align(network, task, method, hints, replace(ALIGN_PLAN, seed=seed), steps, SETTINGS)
    network.eval()


def caption_quality(network: TopDown, data: CaptionRegionData, scenes: tuple[Scene, ...]) -> dict[str, float]:
    """Quality of captions.

    Returns:
        ``cross_entropy`` of a word of people's captions, in nats; of generated captions ``object_f1``, ``bleu`` (the
        mean BLEU-4) and ``kind`` and ``colour``: the share of right mentions, NaN where nothing is mentioned. Counts
        are too seldom mentioned to be measured.
    """
    texts = generated_captions(network, data, caption_vocabulary())
    right = mention_accuracy_of(texts, scenes)
    scores = [bleu(text, people) if text else 0.0 for text, people in zip(texts, data.texts, strict=True)]
    return {
        "cross_entropy": caption_cross_entropy(network, data),
        "object_f1": object_f1(texts, scenes),
        "bleu": sum(scores) / len(scores),
        **{claim: right.get(claim, math.nan) for claim in ("kind", "colour")},
    }


def grounding(network: TopDown, data: CaptionRegionData) -> dict[str, float]:
    """What the network relies on for the nouns of the first caption of every scene, given the words before them.

    Returns:
        ``noun``: how often the noun is the likeliest word there; ``hit``: how often the most important region lies on
        an object that the noun names (the pointing game), and ``attention_hit`` the same by attention; ``chance``: the
        share of regions that do; ``share``: the share of positive importance that lies on these objects, of a noun
        without any the share of regions; ``rank``: Spearman's correlation of importances with the masks'; ``deletion``:
        how much more the noun's probability falls without the four most important regions than without four random
        ones; ``size``: the mean absolute importance.
    """
    network.eval()
    first = (data.nouns[:, 1] == 0).nonzero().squeeze(1)
    items, human, on_object = data.items[first], data.importance[first], data.on_object[first]
    rows = [_of_part(network, data.regions, items[part]) for part in torch.arange(len(first)).split(300)]
    right, alpha, attention, deletion = (torch.cat(part) for part in zip(*rows, strict=True))
    known = (human.std(1) > 0) & (alpha.std(1) > 0)
    chance = on_object.float().mean(1)
    positive = alpha.clamp_min(0).double()
    total = positive.sum(1)
    share = torch.where(total > 0, (positive * on_object).sum(1) / total.clamp_min(1e-300), chance.double())
    return {
        "noun": float(right.float().mean()),
        "hit": _hits(alpha, on_object),
        "attention_hit": _hits(attention, on_object),
        "chance": float(chance.mean()),
        "share": float(share.mean()),
        "rank": float(rank_correlation(alpha[known], human[known]).mean()),
        "deletion": float(deletion.mean()),
        "size": float(alpha.abs().mean()),
    }


def _hits(importance: Importance, on_object: Tensor) -> float:
    return float(on_object.gather(1, importance.argmax(1, keepdim=True)).float().mean())


def _of_part(network: TopDown, regions: Tensor, items: CaptionItems) -> tuple[Tensor, Importance, Importance, Tensor]:
    """Whether the word is the likeliest, importances, attention, and the deletion test of some items."""
    of_items, words = regions[items.images], items.words.unsqueeze(1)
    taken = of_items.clone().requires_grad_()
    output = word_output(network, taken, items)
    alpha = region_importance(output.logits.gather(1, words).squeeze(1), taken).detach()
    before = output.logits.detach().softmax(1).gather(1, words).squeeze(1)
    random = torch.rand(alpha.shape, generator=torch.Generator().manual_seed(int(items.images[0])))
    falls = []
    for order in (alpha, random):
        fewer = of_items.clone()
        fewer.scatter_(1, order.topk(DELETED, 1).indices.unsqueeze(2).expand(-1, -1, regions.shape[2]), 0.0)
        with torch.inference_mode():
            without = word_output(network, fewer, items).logits.softmax(1).gather(1, words).squeeze(1)
        falls.append(before - without)
    assert output.attention is not None  # for type checkers: this network has attention
    right = output.logits.detach().argmax(1) == items.words
    return right, alpha, output.attention.detach(), falls[0] - falls[1]


def _first(data: CaptionRegionData, count: int) -> CaptionRegionData:
    """The first scenes, without their nouns."""
    return CaptionRegionData(
        data.regions[:count],
        data.boxes[:count],
        data.texts[:count],
        data.words[:count],
        data.nouns[:0],
        data.importance[:0],
        data.on_object[:0],
    )
