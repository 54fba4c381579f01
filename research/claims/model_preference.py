"""Model preference: which of two networks is better, judged by a rule that prefers maps on the object.

Grad-CAM, section 5.2: people saw maps of AlexNet and VGG-16 for the same correct prediction and rated which network is
more reasonable, from -2 to +2 in favour of the better one: guided backprop +1.00, Guided Grad-CAM +1.27. No people are
asked here. The rule that replaces them uses only the share of a map's energy on the object, so that the result is a
property of maps and not of people's trust.
"""

from dataclasses import dataclass, field, replace

import torch
from rich.progress import Progress

import saywhy
from research.claims import language_networks
from research.claims.cases import Case, answer
from research.claims.maps import MapMeasurements
from research.claims.measure import estimate, table
from saywhy.metrics.localization import energy_pointing
from saywhy.toybox.recipes import classifier as recipe
from saywhy.toybox.recipes.draw import draw
from saywhy.toybox.recipes.mean_average_precision import logits_of, mean_average_precision
from saywhy.training.loop import Phase

METHODS = ("guided-gradcam", "guided-backprop", "gradcam")

PAPER = {"guided-gradcam": "+1.27", "guided-backprop": "+1.00"}

SCENES, TESTS = 3_000, 200
"""Training scenes of the worse networks, and test scenes of all networks."""

PHASES = (Phase(8, 64), Phase(1, 128))
"""A fifth of the training steps of the shipped network."""


def undertrained(seed: int, progress: Progress) -> saywhy.Model:
    """Return a Toybox classifier that was trained too briefly, on a quarter of the scenes."""
    file = language_networks.FOLDER / f"toybox-worse-{seed}.safetensors"
    if not file.exists():
        recipe.train(file, 1000 + seed, SCENES, TESTS, PHASES, progress)
    return saywhy.load("toybox:classifier", file)


def found_by_both(case: Case, other: saywhy.Model) -> Case | None:
    """Return the same image with the classes that another network finds too, or None if there are none."""
    probabilities = answer(other, case.fed).values("probability")[0]
    both = [i for i, index in enumerate(case.classes) if probabilities[index] > 0.5]
    return case.only(both) if both else None


@dataclass
class PreferenceResults:
    """Measurements of pairs of networks."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    precision: list[tuple[float, float]] = field(default_factory=list)

    def pair(self, better: saywhy.Model, other: saywhy.Model, tests: int) -> None:
        """Measure the mean average precision of both networks, on ``tests`` scenes of the test split."""
        images, labels = draw("test", tests)
        scores = [mean_average_precision(logits_of(model.module, images), labels) for model in (better, other)]
        self.precision.append((scores[0], scores[1]))

    def add(self, case: Case, other: saywhy.Model) -> None:
        """Compare the maps of two networks that both find the classes."""
        assert case.masks is not None
        energies = {}
        for name, model in (("better", case.model), ("worse", other)):
            seen = replace(case, model=model)
            found = seen.explain(list(case.classes), METHODS)
            for method in METHODS:
                energies[name, method] = energy_pointing(seen.on_image(found[method][0]), case.masks[None])[0]
        for method in METHODS:
            for name in ("better", "worse"):
                for value in energies[name, method].tolist():
                    self.measurements.add(f"energy {method}", name, value, case.scene)
            for preferred in preference(energies["better", method], energies["worse", method]).tolist():
                self.measurements.add("preferred", method, preferred, case.scene, share=True)

    def section(self) -> str:
        """Return the section on trust."""
        kept = self.measurements
        rows = []
        for method in METHODS:
            energy = kept.estimates(f"energy {method}", ("better", "worse"))
            share = estimate(kept.of("preferred", method))
            rows.append([method, energy["better"], energy["worse"], share, PAPER.get(method, "")])
        heads = [
            "map",
            "energy on the object, better network",
            "worse network",
            "better network preferred",
            "paper, -2 to +2",
        ]
        claims = [
            kept.claim(
                f"{method}: the better network's map lies more on the object",
                f"energy {method}",
                "better",
                "worse",
            )
            for method in METHODS
        ]
        precisions = "; ".join(f"{better:.3f} against {other:.3f}" for better, other in self.precision)
        count = estimate(kept.of("preferred", "gradcam"))
        return f"""## Trust, by a proxy and without people

Published (Grad-CAM, section 5.2): 54 people rated which of two networks is more reasonable, where both are right. Here
a rule replaces them: it prefers the network with more of the map's energy on the object. Measured on {count.items}
objects in {count.scenes} scenes that both networks find. Mean average precision of each pair (the paper's: 0.791
against 0.692): {precisions}. Chance is one half.

{table(heads, rows)}

### Verdicts

{table(["claim (of the proxy, not of people)", "difference", "verdict"], [*claims, *self._preferences()])}"""

    def _preferences(self) -> list[list[object]]:
        return [
            self.measurements.claim_above(
                "Guided Grad-CAM prefers the better network, more often than one half",
                "preferred",
                "guided-gradcam",
                0.5,
            ),
            self.measurements.claim(
                "… and more often than guided backprop",
                "preferred",
                "guided-gradcam",
                "guided-backprop",
            ),
        ]


def preference(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
    """Return 1 where the first is larger, 0 where the second is, one half where they are equal.

    >>> preference(torch.tensor([0.3, 0.1, 0.2]), torch.tensor([0.1, 0.3, 0.2])).tolist()
    [1.0, 0.0, 0.5]
    """
    return (better > worse).double() + 0.5 * (better == worse)
