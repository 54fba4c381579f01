"""The runs of HINT's comparison on Toybox's regions: what is trained, and what is measured of each network."""

import copy
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor, nn

from research.claims.language_networks import FOLDER
from saywhy.alignment.align import AlignmentSettings, RegionOutput, RegionTask, align
from saywhy.alignment.controls import hints_of
from saywhy.alignment.importance import Importance, region_importance
from saywhy.alignment.region_methods import region_method
from saywhy.io.atomic import write_text
from saywhy.metrics.correlation import rank_correlation
from saywhy.models import load
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.up_down import UpDownVQA, answer_loss
from saywhy.toybox.language import ANSWERS, TYPES
from saywhy.toybox.recipes.region_data import RegionData, region_data
from saywhy.toybox.recipes.up_down import PLAN, fresh_up_down, learn_up_down
from saywhy.training.checkpoint import save_weights
from saywhy.training.loop import Plan

SCENES, TESTS = 4_000, 800
"""Training scenes, and scenes of each of the two test sets."""

HINTED = 0.06
"""The share of training questions with a hint, as in the paper."""

BASE_STEPS, STEPS = 2_000, 300
"""Steps of the network that all runs of a seed begin with, and of each run."""

ALIGN_PLAN = Plan((), batch=64, rate=3e-4, decay=0.0, warmup=10, clip=0.25)

DELETED = 4
"""Regions that are deleted, of 24."""

IMPORTANT = 0.55
"""Human importance from which a region is important: the threshold for VQA-HAT in VisFIS."""

YES_NO = ("exists", "compare", "same-colour")
"""Types of questions that are answered by yes or no."""


@dataclass(frozen=True)
class Items:
    """The questions of a data set, one after the other.

    Attributes:
        data: the scenes.
        scenes, types: [item] the scene and the type of every question.
    """

    data: RegionData
    scenes: Int[Tensor, " item"]
    types: Int[Tensor, " item"]

    @classmethod
    def of(cls, data: RegionData) -> "Items":
        """All questions whose answer is known."""
        scenes, types = ((data.answers >= 0) & (data.answers < len(ANSWERS))).nonzero(as_tuple=True)
        return cls(data, scenes, types)

    def __getattr__(self, name: str) -> Tensor:
        if name in ("words", "answers", "scores", "human_importance", "evidence_importance"):
            found: Tensor = getattr(self.data, name)[self.scenes, self.types]
            return found
        raise AttributeError(name)


@cache
def items_of(split: str, count: int) -> Items:
    """The questions of the first scenes of a split."""
    return Items.of(region_data(split, count))


def base_network(seed: int, scenes: int, steps: int) -> UpDownVQA:
    """The network that all runs of a seed begin with: trained on all questions, without hints; stored."""
    network = fresh_up_down(seed, _vocabulary())
    file = FOLDER / f"hint-base-{scenes}-{steps}-{seed}.safetensors"
    if not file.exists():
        learn_up_down(network, items_of("priors-train", scenes).data, replace(PLAN, seed=seed), steps)
        save_weights(file, network.state_dict(), {"seed": str(seed), "steps": str(steps)})
    network.load_state_dict(load_file(file))
    return network.eval()


def train_base(seed: int, scenes: int, steps: int) -> None:
    """Train a base network, unless it is stored; for a process of its own."""
    base_network(seed, scenes, steps)


def run(name: str, seed: int, share: float) -> dict[str, Any]:
    """Measure one run: ``"base"`` or a method; stored.

    Args:
        name: of the method.
        seed: of the base network, of hints and order.
        share: of scenes and steps, for a quick run.
    """
    scenes, tests, steps = (max(2, round(n * share)) for n in (SCENES, TESTS, STEPS))
    file = FOLDER / f"hint-{name}-{scenes}-{seed}.json"
    if file.exists():
        stored: dict[str, Any] = json.loads(file.read_text())
        return stored
    network = copy.deepcopy(base_network(seed, scenes, max(2, round(BASE_STEPS * share))))
    training = items_of("priors-train", scenes)
    if name != "base":
        _align(network, training, name, seed, steps)
    found = {
        "run": name,
        "seed": seed,
        "train": measured(network, _some(training, tests), grounded=False),
        "val": measured(network, items_of("priors-val", tests)),
        "test": measured(network, items_of("priors-test", tests)),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found))
    return found


def _align(network: UpDownVQA, items: Items, name: str, seed: int, steps: int) -> None:
    method = region_method(name)
    hinted = torch.rand(len(items.scenes), generator=torch.Generator().manual_seed(17)) < HINTED
    human = torch.where(hinted.unsqueeze(1), items.human_importance, torch.nan)
    boxes = items.data.boxes[items.scenes].float() / 128
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    hints = hints_of(
        method.hints, human, images=items.scenes, centres=centres, oracle=items.evidence_importance, seed=seed
    )
    scores, words = items.scores, items.words

    def forward(model: nn.Module, regions: Tensor, batch: Tensor) -> RegionOutput:
        output = model(as_feature_maps(regions), words[batch])
        attention = output.attention.sum(1).flatten(1)
        return RegionOutput(output.logits, answer_loss(output.logits, scores[batch]), attention)

    task = RegionTask(items.data.regions, items.scenes, scores, forward)
    align(network, task, method, hints, replace(ALIGN_PLAN, seed=seed), steps, AlignmentSettings())
    network.eval()


def measured(network: UpDownVQA, items: Items, *, grounded: bool = True) -> dict[str, Any]:
    """Accuracy, priors of answers, and grounding of a network on questions.

    Returns:
        ``accuracy``; ``types``, the accuracy by type; ``yes``, the share of "yes" among questions of yes or no;
        ``entropy``, of the predicted answers, in bits, the mean over types; and if ``grounded``, ``rank``: Spearman's
        correlation of the importance of regions to the right answer with people's, ``pointing``: how often the most
        important region is one that people find important, ``deletion``: how much more the right answer's probability
        falls without the four most important regions than without four random ones; ``size``: the mean absolute
        importance.
    """
    predicted, rows = [], []
    for part in torch.arange(len(items.scenes)).split(500):
        logits, alpha, deletion = _of_part(network, items, part, grounded)
        predicted.append(logits.argmax(1))
        rows.append((alpha, deletion))
    answers, right = torch.cat(predicted), torch.cat(predicted) == items.answers
    kinds = list(TYPES)
    by_type = {
        t: float(right[items.types == i].float().mean()) for i, t in enumerate(kinds) if (items.types == i).any()
    }
    yes_no = torch.isin(items.types, torch.tensor([kinds.index(t) for t in YES_NO]))
    entropies = [_entropy(answers[items.types == kinds.index(t)]) for t in by_type]
    found: dict[str, Any] = {
        "accuracy": float(right.float().mean()),
        "types": by_type,
        "yes": float((answers[yes_no] == ANSWERS.index("yes")).float().mean()),
        "entropy": float(np.mean(entropies)),
    }
    if grounded:
        alpha, deletion = (torch.cat(part) for part in zip(*rows, strict=True))
        human = items.human_importance
        known = human.isfinite().all(1) & (human.std(1) > 0) & (alpha.std(1) > 0)
        found |= {
            "rank": float(rank_correlation(alpha[known], human[known]).mean()),
            "pointing": float((human.gather(1, alpha.argmax(1, keepdim=True)) >= IMPORTANT)[known].float().mean()),
            "deletion": float(deletion[known].mean()),
            "size": float(alpha.abs().mean()),
        }
    return found


def _of_part(network: UpDownVQA, items: Items, part: Tensor, grounded: bool) -> tuple[Tensor, Importance, Tensor]:
    regions, words = items.data.regions[items.scenes[part]], items.words[part]
    if not grounded:
        with torch.inference_mode():
            return network(as_feature_maps(regions), words).logits, torch.empty(0), torch.empty(0)
    taken, rows = regions.clone().requires_grad_(), torch.arange(len(part))
    logits = network(as_feature_maps(taken), words).logits
    answers = items.answers[part]
    alpha = region_importance(logits[rows, answers], taken).detach()
    generator = torch.Generator().manual_seed(int(part[0]))
    falls = []
    for order in (alpha, torch.rand(alpha.shape, generator=generator)):
        fewer = regions.clone()
        fewer.scatter_(1, order.topk(DELETED, 1).indices.unsqueeze(2).expand(-1, -1, regions.shape[2]), 0.0)
        with torch.inference_mode():
            without = network(as_feature_maps(fewer), words).logits[rows, answers].sigmoid()
        falls.append(logits[rows, answers].detach().sigmoid() - without)
    return logits.detach(), alpha, falls[0] - falls[1]


def _entropy(answers: Tensor) -> float:
    """The entropy of the frequencies of answers, in bits.

    >>> _entropy(torch.tensor([0, 0, 1, 1]))
    1.0
    """
    shares = answers.bincount().double() / len(answers)
    shares = shares[shares > 0]
    return float(-(shares * shares.log2()).sum())


def _some(items: Items, scenes: int) -> Items:
    kept = items.scenes < scenes
    return Items(items.data, items.scenes[kept], items.types[kept])


def _vocabulary() -> Vocabulary:
    found: Vocabulary = load("toybox:vqa").texts["question"].__self__  # type: ignore[attr-defined]
    return found


def stored(folder: Path = FOLDER) -> list[Path]:
    """The files of finished runs."""
    return sorted(folder.glob("hint-*.json"))
