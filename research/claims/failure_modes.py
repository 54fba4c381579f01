"""Failure modes: photographs on which a network is confidently wrong, with maps of true and predicted class.

Grad-CAM, section 6.1, inspects Guided Grad-CAM of the true class and of the predicted one: some images are ambiguous,
and seemingly unreasonable predictions often have reasonable explanations. Only people can judge whether an explanation
is reasonable; this module measures what can be measured without them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import saywhy
from research.claims.cases import REAL, Case, answer, is_correct, photographs, squeezenet
from research.claims.maps import MapMeasurements, positive_map
from research.claims.measure import UNDECIDED, table
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.view.sheet import sheet

METHODS = ("gradcam", "guided-gradcam")

COVERED = 0.1
"""Share of the image that is covered."""

DRAWS = 8
"""Random positions that serve as a control of the covered region."""

FIRST = 5
"""A failure is near if the true class is among this number of top predictions."""


@dataclass(frozen=True)
class Failure:
    """A photograph with its true class and another class.

    Attributes:
        case: the photograph with its true class.
        other: the predicted class; for a correctly classified photograph the runner-up class.
    """

    case: Case
    other: int

    @property
    def targets(self) -> list[int]:
        """The true class and the other one."""
        return [self.case.classes[0], self.other]

    @property
    def name(self) -> str:
        """The name of the true class."""
        return self.label(self.targets[0])

    def label(self, index: int) -> str:
        """Return the name of a class."""
        labels = self.case.model.labels
        return labels[index] if labels else str(index)


def failures(cases: list[Case]) -> tuple[list[Failure], list[Failure]]:
    """Return the wrongly and the correctly classified photographs."""
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
    """Measurements of failures."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    rows: list[list[object]] = field(default_factory=list)

    def add(self, failure: Failure, wrong: bool) -> None:
        """Measure one photograph; correctly classified ones serve as a comparison."""
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
        probabilities = answer(case.model, case.fed).values("probability")[0]
        place = 1 + int((probabilities > probabilities[failure.targets[0]]).sum())
        evidence = bool(found["gradcam"][0, 0].any())
        self.measurements.add("truth", "among the first", float(place <= FIRST), scene, share=True)
        self.measurements.add("truth", "has evidence", float(evidence), scene, share=True)
        there, elsewhere = self._covered(failure, positive_map(found, "gradcam", 1, size))
        p_true, p_other = (f"{float(probabilities[index]):.2g}" for index in failure.targets)
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
        """Return the gain of the true class's logit over the predicted one's when the latter's evidence is covered.

        The second value is the mean gain when regions of the same size at random positions are covered.
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
        """Return the section on failures."""
        kept = self.measurements
        heads = [
            "true class", "p", "rank", "predicted class", "p", "evidence for the true class",
            "map correlation, Grad-CAM", "Guided Grad-CAM", "gain, evidence covered", "gain, random region covered",
        ]  # fmt: skip
        alike = [[group, *(kept.cell(f"alike {method}", group) for method in METHODS)] for group in ("wrong", "right")]
        return f"""## Failure modes

Published (Grad-CAM, section 6.1): examples; unreasonable predictions often have reasonable explanations. Only people
can judge this: *not decidable here*. Measured on {len(self.rows)} photographs on which SqueezeNet is confidently wrong:
the rank of the true class; whether Grad-CAM finds evidence for it; the rank correlation of the maps of the true and the
predicted class (14 × 14 cells); and the gain of the true class's logit over the predicted one's when the tenth of the
image with the highest Grad-CAM of the predicted class is covered with the mean colour, and when regions of that shape
at {DRAWS} random positions are covered.

{table(heads, self.rows)}

Maps of the true and the predicted class, compared with those of the two top classes on correctly classified
photographs:

{table(["photographs", *(f"rank correlation, {method}" for method in METHODS)], alike)}

### Verdicts

{table(["claim", "difference", "verdict"], self._verdicts())}"""

    def _verdicts(self) -> list[list[object]]:
        kept = self.measurements
        return [
            kept.claim_above(
                f"More than half of the failures are near: the true class is among the top {FIRST}",
                "truth",
                "among the first",
                0.5,
            ),
            kept.claim_above(
                "There is evidence for the true class on more than half of them", "truth", "has evidence", 0.5
            ),
            kept.claim(
                "Covering the evidence for the predicted class helps the true class, more than random regions",
                "covered",
                "there",
                "elsewhere",
            ),
            kept.claim_above("… and helps it at all", "covered", "there"),
            ["Unreasonable predictions have reasonable explanations", "", UNDECIDED],
        ]


def highest(found: Tensor) -> Tensor:
    """Return the mask of the tenth of pixels with the highest values, or of all positive ones if fewer.

    >>> highest(torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0] * 4])).sum().item(), highest(torch.zeros(4, 5)).sum().item()
    (2, 0)
    """
    count = min(int(COVERED * found.numel()), int((found > 0).sum()))
    mask = torch.zeros(found.numel(), dtype=torch.bool)
    mask[found.flatten().topk(count).indices] = True
    return mask.view(found.shape)


def covered(fed: Tensor, mask: Tensor) -> Tensor:
    """Return an image with its mean colour inside the mask.

    >>> covered(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[True, False]]))
    tensor([[[[2., 4.]]]])
    """
    return torch.where(mask, fed.mean((2, 3), keepdim=True), fed)


def _ahead(failure: Failure, fed: Tensor) -> float:
    logits = answer(failure.case.model, fed).logits[0]
    return float(logits[failure.targets[0]] - logits[failure.other])


def draw(folder: Path = Path("docs/images")) -> Path:
    """Draw the photographs with the maps of true and predicted class, a row each: ``failures.png`` in a folder.

    The photographs are for research only, so that the drawing is not part of the repository.

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
