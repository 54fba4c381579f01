"""Random variations of networks and inputs with planted truth: whether any wrong map comes without a word.

Every variation is a network of :mod:`research.benchmarks.planted_networks` with an image on which coloured objects lie,
and some asks of it; Hypothesis draws them by kind. A map is *right* if its maximum lies within one cell of an object of
the asked class and every such object has a third of the maximum within one cell, and if a probability that goes with it
is the network's. A wrong map counts as *told* only if a Python warning came with it.
"""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seed_of
from torch import Tensor, nn

import saywhy
from research.benchmarks.planted_scenes import Ask, Box, Truth, Variation
from research.benchmarks.variation_kinds import KINDS
from saywhy.errors import SaywhyError, SaywhyWarning

State = Literal["right", "right, with a warning", "told", "refused", "silently wrong", "error"]
STATES: tuple[State, ...] = ("right", "right, with a warning", "told", "refused", "silently wrong", "error")
FAULTS: tuple[State, ...] = ("silently wrong", "error")

SHARE = 1 / 3
"""The least value near every object, as a share of the maximum."""


@dataclass(frozen=True)
class Outcome:
    """The worst state of the asks of a variation, and why."""

    kind: str
    text: str
    state: State
    reason: str = ""


def outcome(variation: Variation) -> Outcome:
    """Ask, and compare the maps with the truth."""
    network = deepcopy(variation.network).eval()
    found = [_answer(network, ask) for ask in variation.asks]
    state, reason = max(found, key=lambda one: STATES.index(one[0]))
    return Outcome(variation.kind, variation.text, state, reason)


def _answer(network: nn.Module, ask: Ask) -> tuple[State, str]:
    """Return the state of one ask, and why."""
    if ask.before is not None:
        ask.before(network)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            e = saywhy.explain(network, ask.inputs, **ask.options)
            wrong = next(filter(None, (misplaced(e, *key, truth) for key, truth in ask.truth.items())), "")
        except SaywhyError as error:
            return "refused", " ".join(str(error).split())
        except Exception as error:  # any error is an outcome
            return "error", " ".join(f"{type(error).__name__}: {error}".split())
    told = [str(one.message) for one in caught if issubclass(one.category, SaywhyWarning)]
    if wrong:
        return ("told", told[0]) if told else ("silently wrong", f"{wrong} (layers {', '.join(e.layers)})")
    return ("right, with a warning", told[0]) if told else ("right", "")


def misplaced(e: saywhy.Explanation, sample: int, target: int, truth: Truth) -> str:
    """Return what is wrong with a map, or an empty string."""
    values = e.heatmap(normalize="none")[sample, target]
    name = f"the map of sample {sample}, target {target}"
    if not bool(values.isfinite().all()) or float(values.max()) <= 0:
        return f"{name} is {'blank' if bool(values.isfinite().all()) else 'not finite'}"
    if values.ndim != len(truth.cell):
        return f"{name} has {values.ndim} axes, and {len(truth.cell)} were expected"
    near = [_near(values, box, truth.cell) for box in truth.boxes]
    if max(near) < values.max():
        peak = [int(i) for i in torch.unravel_index(values.argmax(), values.shape)]
        return f"{name} has its maximum at {peak}, and the objects are at {list(truth.boxes)}"
    if min(near) < SHARE * values.max():
        return f"{name} misses the object at {truth.boxes[int(torch.stack(near).argmin())]}"
    given = e.probabilities
    if truth.probability is not None and (
        given is None or abs(float(given[sample, target]) - truth.probability) > 1e-4
    ):
        return f"the probability is {given}, and {truth.probability:.4f} was expected"
    return ""


def _near(values: Tensor, box: Box, cell: Sequence[float]) -> Tensor:
    """Return the maximum of a map within one cell of a box."""
    for axis, ((low, high), size) in enumerate(zip(box, cell, strict=True)):
        first, last = max(0, int(low - size)), min(values.shape[axis], int(high + size) + 1)
        values = values.narrow(axis, first, max(1, last - first))
    return values.max()


def drawn_variations(kind: str, count: int, seed: int = 0) -> list[Variation]:
    """Return drawn variations of a kind, no two of which are described alike; the same for the same seed.

    Hypothesis draws most of a run's examples near earlier ones, so that they come from many short runs.
    """
    drawn: dict[str, Variation] = {}

    def collect(variation: Variation) -> None:
        drawn.setdefault(variation.text, variation)

    for run in range(10 * count):
        quiet = settings(max_examples=3, database=None, deadline=None, phases=[Phase.generate],
                         suppress_health_check=list(HealthCheck))  # fmt: skip
        seed_of(seed * 10_000 + run)(quiet(given(KINDS[kind]())(collect)))()
        if len(drawn) >= count:
            break
    return list(drawn.values())[:count]


def section(found: Sequence[Outcome]) -> str:
    """Return the section of the coverage page: how many variations of each kind end in each state."""
    lines = ["## Variations with planted truth", "", " ".join((__doc__ or "").partition("\n\n")[2].split()), ""]
    lines += ["| kind | variations | " + " | ".join(STATES) + " |", "|---|" + "--:|" * (1 + len(STATES))]
    for kind in KINDS:
        own = [one.state for one in found if one.kind == kind]
        lines.append(f"| {kind} | {len(own)} | " + " | ".join(str(own.count(state)) for state in STATES) + " |")
    every = [one.state for one in found]
    lines.append(f"| all | {len(every)} | " + " | ".join(str(every.count(state)) for state in STATES) + " |")
    lines += ["", *(f"- *{kind}*: {(KINDS[kind].__doc__ or '').strip()}" for kind in KINDS)]
    for one in found:
        if one.state in FAULTS:
            lines += ["", f"- {one.state}: {one.kind}, {one.text}: {one.reason}"]
    return "\n".join(lines) + "\n"
