"""Failure modes: photographs on which a network is confidently wrong, and what its maps say of truth and answer.

Grad-CAM, section 6.1: one looks at Guided Grad-CAM of the right class and of the predicted one; some images are
ambiguous, and answers that seem unreasonable often have reasonable explanations. Whether an explanation is reasonable
people have to say; here stands what can be measured without them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import saywhy
from research.claims.cases import REAL, Case, answer, is_correct, photographs, squeezenet
from research.claims.maps import Measurements, positive_map, verdict_row
from research.claims.measure import UNDECIDED, estimate, table
from research.claims.verdict_rows import comparison_row
from saywhy.metrics.human_attention import on_grid, rank_correlation
from saywhy.view.sheet import sheet

METHODS = ("gradcam", "guided-gradcam")

COVERED = 0.1
"""The share of the image that is covered."""

DRAWS = 8
"""Places at random that stand beside the one that a map names."""

FIRST = 5
"""An image whose true class is among so many first answers is told to be one that the network nearly gets right."""


@dataclass(frozen=True)
class Failure:
    """A photograph, the class that it is of, and another one.

    Attributes:
        case: the photograph, asked about its true class.
        other: the network's answer; of a photograph that the network gets right the answer that comes second.
    """

    case: Case
    other: int

    @property
    def targets(self) -> list[int]:
        """The true class and the other one."""
        return [self.case.classes[0], self.other]

    @property
    def name(self) -> str:
        """Of the true class."""
        return self.label(self.targets[0])

    def label(self, index: int) -> str:
        """Of a class."""
        labels = self.case.model.labels
        return labels[index] if labels else str(index)


def failures(cases: list[Case]) -> tuple[list[Failure], list[Failure]]:
    """Photographs on which the network errs, and those on which it is right."""
    wrong, well = [], []
    for case in cases:
        first, second = answer(case.model, case.fed).logits[0].topk(2).indices.tolist()
        if is_correct(case):
            well.append(Failure(case, second))
        else:
            wrong.append(Failure(case, first))
    return wrong, well


@dataclass
class FailureResults:
    """What was measured."""

    measurements: Measurements = field(default_factory=Measurements)
    rows: list[list[object]] = field(default_factory=list)

    def add(self, failure: Failure, wrong: bool) -> None:
        """Measure one photograph; those that are right stand beside."""
        case, scene, group = failure.case, failure.case.scene, "wrong" if wrong else "right"
        found = case.explain(failure.targets, METHODS)
        size = (found.input_size[0], found.input_size[1])
        alike = {}
        for method in METHODS:
            truth, other = (on_grid(positive_map(found, method, target, size)).flatten() for target in (0, 1))
            alike[method] = float(rank_correlation(truth, other))
            self.measurements.add(f"alike {method}", group, alike[method], scene)
        if not wrong:
            return
        chances = answer(case.model, case.fed).values("probability")[0]
        place = 1 + int((chances > chances[failure.targets[0]]).sum())
        evidence = bool(found["gradcam"][0, 0].any())
        self.measurements.add("truth", "among the first", float(place <= FIRST), scene)
        self.measurements.add("truth", "has evidence", float(evidence), scene)
        there, elsewhere = self._covered(failure, positive_map(found, "gradcam", 1, size))
        p_true, p_other = (f"{float(chances[index]):.2g}" for index in failure.targets)
        self.rows.append(
            [
                failure.name,
                p_true,
                place,
                failure.label(failure.other),
                p_other,
                "yes" if evidence else "no",
                *(f"{value:.2f}" for value in alike.values()),
                f"{there:+.2f}",
                f"{elsewhere:+.2f}",
            ]
        )

    def _covered(self, failure: Failure, found: Tensor) -> tuple[float, float]:
        """How much further the true class is ahead of the wrong answer when the latter's evidence is covered.

        And when as much is covered elsewhere, the mean over places.
        """
        case, mask = failure.case, highest(found)
        before = _ahead(failure, case.fed)
        after = _ahead(failure, covered(case.fed, mask)) - before
        generator = np.random.default_rng([case.network, case.number])
        moves = [tuple(int(generator.integers(side)) for side in mask.shape) for _ in range(DRAWS)]
        others = [_ahead(failure, covered(case.fed, mask.roll(move, (0, 1)))) - before for move in moves]
        for who, value in (("there", after), ("elsewhere", float(np.mean(others)))):
            self.measurements.add("covered", who, value, case.scene)
        return after, float(np.mean(others))

    def section(self) -> str:
        """The section on failures."""
        kept = self.measurements
        heads = [
            "photograph of", "p", "place", "taken for", "p", "evidence for the truth", "maps alike, Grad-CAM",
            "Guided Grad-CAM", "truth gains, covered there", "elsewhere",
        ]  # fmt: skip
        alike = [
            [group, *(estimate(kept.of(f"alike {method}", group)) for method in METHODS)]
            for group in ("wrong", "right")
        ]
        return f"""## Failure modes

Published (Grad-CAM, section 6.1): examples; unreasonable predictions often have reasonable explanations. That needs
people to say, and is *not decidable here*. What can be measured of {len(self.rows)} photographs on which SqueezeNet is
confidently wrong: at which place the true class is; whether Grad-CAM finds any evidence for it; the rank correlation of
the map of the truth with that of the answer (14 × 14 cells); and by how much the logit of the truth gains on that of
the answer when the tenth of the image where the answer's Grad-CAM is highest is covered with the mean colour, and
when as much is covered at {DRAWS} places at random.

{table(heads, self.rows)}

Maps of the truth and of the answer, beside those of the first and second answer on photographs that are right:

{table(["photographs", *(f"alike, {method}" for method in METHODS)], alike)}

### Verdicts

{table(["claim", "difference", "verdict"], self._verdicts())}"""

    def _verdicts(self) -> list[list[object]]:
        kept = self.measurements
        return [
            verdict_row(
                f"More than half of the failures are near: the truth is among the first {FIRST}",
                estimate(kept.of("truth", "among the first"), over=0.5),
            ),
            verdict_row(
                "There is evidence for the truth on more than half of them",
                estimate(kept.of("truth", "has evidence"), over=0.5),
            ),
            comparison_row(
                kept,
                "Covering what Grad-CAM shows for the wrong answer helps the truth, more than elsewhere",
                "covered",
                "there",
                "elsewhere",
            ),
            verdict_row("… and helps it at all", estimate(kept.of("covered", "there"))),
            ["Unreasonable predictions have reasonable explanations", "", UNDECIDED],
        ]


def highest(found: Tensor) -> Tensor:
    """The tenth of a map where it is highest, or all that is positive if that is less.

    >>> highest(torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0] * 4])).sum().item(), highest(torch.zeros(4, 5)).sum().item()
    (2, 0)
    """
    count = min(int(COVERED * found.numel()), int((found > 0).sum()))
    mask = torch.zeros(found.numel(), dtype=torch.bool)
    mask[found.flatten().topk(count).indices] = True
    return mask.view(found.shape)


def covered(fed: Tensor, mask: Tensor) -> Tensor:
    """An image with its mean colour inside of the mask.

    >>> covered(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[True, False]]))
    tensor([[[[2., 4.]]]])
    """
    return torch.where(mask, fed.mean((2, 3), keepdim=True), fed)


def _ahead(failure: Failure, fed: Tensor) -> float:
    logits = answer(failure.case.model, fed).logits[0]
    return float(logits[failure.targets[0]] - logits[failure.other])


def draw(folder: Path = Path("docs/images")) -> Path:
    """Draw the photographs with the maps of truth and answer, a row each: ``failures.png`` in a folder.

    The photographs are for research only, so that the image does not go into the repository.

    Raises:
        InputError: the real network and photographs are not there.
    """
    model = squeezenet()
    wrong, _ = failures(photographs(model))
    files = {file.stem.partition("_")[2].replace("_", " "): file for file in (REAL / "imagenet" / "photos").glob("n*")}
    targets = torch.tensor([failure.targets for failure in wrong])
    found = saywhy.explain(model, [files[failure.name] for failure in wrong], targets, list(METHODS))
    folder.mkdir(parents=True, exist_ok=True)
    sheet(found, panel=224, columns=4).save(folder / "failures.png", optimize=True)
    return folder / "failures.png"
