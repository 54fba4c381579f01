"""The claims of U-CAM's paper, and of its variants, as differences between like and like.

A claim holds only if the reconstruction is better than the base and than every control.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from research.claims.measure import table
from research.claims.multiple_testing import placeholder_of_all
from research.claims.ucam_statistics import Statistic
from research.claims.ucam_tables import Results
from research.claims.uncertainty_networks import CONTROLS, PRIOR_CONTROLS

MARGIN = 0.01
"""Largest loss of accuracy that counts as no worse."""

MONTE_CARLO = "MC dropout"


@dataclass(frozen=True)
class Claim:
    """A claim: each of its differences is above zero.

    Attributes:
        text: what is claimed.
        differences: by what is subtracted; the verdict is of these.
        pooled: the same differences of AUROCs that are pooled over the types of questions; empty for other statistics.
    """

    text: str
    differences: Mapping[str, Statistic]
    pooled: Mapping[str, Statistic] = field(default_factory=dict)

    def rows(self) -> list[list[str]]:
        """Return the rows of the table, with a placeholder of the verdict."""
        estimates = {name: one.estimate for name, one in self.differences.items()}
        first = [self.text, "", "", f"**{placeholder_of_all(list(estimates.values()))}**"]
        return [first] + [
            ["", f"less {name}: {one.as_claim()}", str(self.pooled[name].estimate) if name in self.pooled else "", ""]
            for name, one in estimates.items()
        ]


def report(results: Results) -> str:
    """Return the table of the claims, with placeholders of the verdicts."""
    rows = [row for claim in claims(results) for row in claim.rows()]
    return table(["claim", "difference", "pooled over types", "verdict"], rows)


def claims(results: Results) -> list[Claim]:
    """Return the claims."""
    return [*_errors(results), *_attention(results), *_kinds(results), *_variants(results)]


def _errors(results: Results) -> list[Claim]:
    """(a) and (c): the detection of wrong answers, and accuracy."""
    spare = -(results.accuracy("base") - results.accuracy("U-CAM") - MARGIN)
    return [
        _detects(
            results, "(a) the entropy of this reconstruction detects wrong answers better (single passes)", "U-CAM"
        ),
        _detects(
            results,
            "(a) the entropy of this reconstruction detects wrong answers better (50 MC dropout samples)",
            "U-CAM",
            "predictive",
        ),
        _detects(
            results,
            "(a) the temperature-scaled entropy of this reconstruction detects wrong answers better",
            "U-CAM",
            "tempered",
            ("base",),
        ),
        _head_detects(results, "(a) the variance head of this reconstruction detects wrong answers better", "U-CAM"),
        Claim(f"(c) the accuracy of this reconstruction is no worse (difference plus {MARGIN:.0%})", {"base": spare}),
    ]


def _attention(results: Results) -> list[Claim]:
    """(b): the agreement with human attention."""
    found = [
        _agrees(results, "(b) the attention of this reconstruction agrees more with human attention", "U-CAM"),
        Claim(
            "(b) the attention of this reconstruction is nearer to human attention (earth mover's distance)",
            {
                name: results.agreement(name, "distance") - results.agreement("U-CAM", "distance")
                for name in ("base", *CONTROLS)
            },
        ),
    ]
    for what in ("certainty-cam", "ucam"):
        theirs = {"the base's Grad-CAM": results.agreement("base", "gradcam")}
        theirs |= {name: results.agreement(name, what) for name in CONTROLS}
        ours = results.agreement("U-CAM", what)
        text = f"(b) the {what} of this reconstruction agrees more with human attention"
        found.append(Claim(text, {name: ours - one for name, one in theirs.items()}))
    return found


def _kinds(results: Results) -> list[Claim]:
    """(d): aleatoric and epistemic uncertainty."""
    found = []
    for kind, other, home in (("aleatoric", "epistemic", "blurred"), ("epistemic", "aleatoric", "unseen")):
        ours = results.shift_auroc("U-CAM", kind, home)
        text = f"(d) {kind} uncertainty of this reconstruction is higher for {home} images"
        found.append(Claim(text, {"chance": ours - 0.5}))
        theirs = ours - results.shift_auroc("U-CAM", other, home)
        found.append(Claim("(d) … more than its " + other + " uncertainty", {f"{other}, {home}": theirs}))
    return found


def _variants(results: Results) -> list[Claim]:
    """(e): masks that differ from the answer's, and variances that do not collapse."""
    controls = dict.fromkeys(("entropy mask", "distortion mask"), ("base", *CONTROLS))
    controls["prior"] = ("base", *PRIOR_CONTROLS)
    texts = {
        "entropy mask": "with a mask from the entropy's gradient",
        "distortion mask": "with a mask from the distortion's gradient",
        "prior": "with a prior on the variance",
    }
    found = []
    for name, theirs in controls.items():
        detects = f"(e) {texts[name]}, the entropy of this reconstruction detects wrong answers better (single passes)"
        found.append(_detects(results, detects, name, "entropy", theirs))
        agrees = f"(e) {texts[name]}, the attention of this reconstruction agrees more with human attention"
        found.append(_agrees(results, agrees, name, theirs))
    head = f"(e) {texts['prior']}, the variance head of this reconstruction detects wrong answers better"
    found.append(_head_detects(results, head, "prior", ("U-CAM", *PRIOR_CONTROLS)))
    found.append(
        Claim(
            "(e) … and its variance is higher for blurred images",
            {"chance": results.shift_auroc("prior", "aleatoric_variance", "blurred") - 0.5},
        )
    )
    without = (
        "(e) without the variance equaliser, the variance head of this reconstruction detects wrong answers better"
    )
    found.append(_head_detects(results, without, "no equaliser", ("U-CAM",)))
    return found


def _detects(
    results: Results, text: str, name: str, kind: str = "entropy", theirs: tuple[str, ...] = ("base", *CONTROLS)
) -> Claim:
    """Claim a higher AUROC of one uncertainty than in other networks."""

    def differences(pooled: bool) -> dict[str, Statistic]:
        ours = results.error_auroc(name, kind, pooled)
        return {other: ours - results.error_auroc(other, kind, pooled) for other in theirs}

    return Claim(text, differences(False), differences(True))


def _head_detects(results: Results, text: str, name: str, theirs: tuple[str, ...] = CONTROLS) -> Claim:
    """Claim a higher AUROC of a variance head than of others, and than of the base's entropy (MC dropout samples)."""

    def differences(pooled: bool) -> dict[str, Statistic]:
        ours = results.error_auroc(name, "aleatoric_variance", pooled)
        base = {f"the base's {MONTE_CARLO}": results.error_auroc("base", "predictive", pooled)}
        heads = {f"that of {other}": results.error_auroc(other, "aleatoric_variance", pooled) for other in theirs}
        return {other: ours - one for other, one in (base | heads).items()}

    return Claim(text, differences(False), differences(True))


def _agrees(results: Results, text: str, name: str, theirs: tuple[str, ...] = ("base", *CONTROLS)) -> Claim:
    """Claim a higher agreement of attention with human attention than in other networks."""
    ours = results.agreement(name, "attention")
    return Claim(text, {other: ours - results.agreement(other, "attention") for other in theirs})
