"""The ways of fixing a classifier: HINT, its baselines, its controls, and what needs no explanation at all.

Each method says which labels it sees. A method that sees more may well be better: a fix that needs hints has to be
compared with one that needs groups, and be worth the difference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.alignment.ranking import ranking_loss, spread_penalty
from saywhy.alignment.right_reasons import input_gradient_loss, log_probabilities_of_all, map_loss, mask_loss
from saywhy.errors import InputError, nearest
from saywhy.fixing.passes import TrainingPass
from saywhy.validation import short_repr

Sees = Literal["class", "group", "hint"]

Term = Callable[[TrainingPass], Float[Tensor, ""]]
"""A loss that is added to the task's."""


@dataclass(frozen=True)
class FixMethod:
    """A way of training.

    Attributes:
        name: on the command line.
        title: for people.
        paper: authors and year.
        sees: the labels that it uses in training; the split on which its epoch is chosen uses the same.
        term: the loss that is added; None for none.
        watches: what the loss needs beside the class scores: maps of a layer, or gradients of the input.
        training: ``"loss"``; or a procedure of its own: ``"reweight"``, ``"groupdro"``, ``"jtt"``, ``"dfr"``.
        control: whether it is there to find out what helps, and not to be used.
    """

    name: str
    title: str
    paper: str
    sees: tuple[Sees, ...]
    term: Term | None = None
    watches: Literal["nothing", "layer", "input"] = "nothing"
    training: Literal["loss", "reweight", "groupdro", "jtt", "dfr"] = "loss"
    control: bool = False

    @property
    def selected_by(self) -> str:
        """How the epoch is chosen, on the split "val"."""
        return "worst-group accuracy on val" if "group" in self.sees else "accuracy on val"


def _hint(batch: TrainingPass) -> Float[Tensor, ""]:
    return ranking_loss(batch.importance, batch.cell_hints, reduction="pair")


def _random_hints(batch: TrainingPass) -> Float[Tensor, ""]:
    generator = torch.Generator().manual_seed((batch.seed * 1_000_003 + batch.step) % 2**63)
    fresh = torch.rand(batch.cell_hints.shape, generator=generator).to(batch.cell_hints)
    hints = torch.where(batch.cell_hints.isfinite(), fresh, torch.nan)
    return ranking_loss(batch.importance, hints, reduction="pair")


def _irrelevant_hints(batch: TrainingPass) -> Float[Tensor, ""]:
    return ranking_loss(batch.importance, 1 - batch.cell_hints, reduction="pair")


def _permuted_hints(batch: TrainingPass) -> Float[Tensor, ""]:
    hints, rows = batch.cell_hints.clone(), batch.hinted.nonzero().squeeze(1)
    hints[rows] = hints[rows.roll(1)] if len(rows) > 1 else torch.nan
    return ranking_loss(batch.importance, hints, reduction="pair")


def _spread(batch: TrainingPass) -> Float[Tensor, ""]:
    return spread_penalty(batch.importance, batch.cell_hints.isfinite(), reduction="pair")


def _rrr(batch: TrainingPass) -> Float[Tensor, ""]:
    logits = batch.output.log_probabilities()
    independent = batch.output.multilabel or logits.shape[1] == 1
    wrong = (1 - batch.hints).nan_to_num(0.0)
    return input_gradient_loss(log_probabilities_of_all(logits, independent=independent), batch.images, wrong)


def _rrr_g(batch: TrainingPass) -> Float[Tensor, ""]:
    return map_loss(batch.maps, (1 - batch.map_hints).nan_to_num(0.0))


def _mask(batch: TrainingPass) -> Float[Tensor, ""]:
    return mask_loss(batch.maps, batch.map_hints)


_ALL = (
    FixMethod(
        "hint", "HINT: cells of Grad-CAM in the order of the hints", "Selvaraju et al., 2019",
        ("class", "hint"), _hint, "layer",
    ),
    FixMethod(
        "rrr", "RRR: no input gradient outside of the hint", "Ross et al., 2017",
        ("class", "hint"), _rrr, "input",
    ),
    FixMethod(
        "rrr-g", "RRR-G: no Grad-CAM outside of the hint", "Schramowski et al., 2020",
        ("class", "hint"), _rrr_g, "layer",
    ),
    FixMethod(
        "mask-mse", "Grad-CAM like the mask (mean squared error)", "Friedrich et al., 2023",
        ("class", "hint"), _mask, "layer",
    ),
    FixMethod("erm", "Training without hints", "Vapnik, 1991", ("class",), control=True),
    FixMethod(
        "random-hints", "HINT with random hints, anew in every step", "Shrestha et al., 2020",
        ("class", "hint"), _random_hints, "layer", control=True,
    ),
    FixMethod(
        "irrelevant-hints", "HINT with 1 - s", "Shrestha et al., 2020",
        ("class", "hint"), _irrelevant_hints, "layer", control=True,
    ),
    FixMethod(
        "permuted-hints", "HINT with the hints of other images", "",
        ("class", "hint"), _permuted_hints, "layer", control=True,
    ),
    FixMethod(
        "spread", "Penalty on the spread of importances", "Shrestha et al., 2020",
        ("class", "hint"), _spread, "layer", control=True,
    ),
    FixMethod(
        "reweight", "Groups sampled equally often", "Idrissi et al., 2022",
        ("class", "group"), training="reweight",
    ),
    FixMethod("groupdro", "Group DRO", "Sagawa et al., 2020", ("class", "group"), training="groupdro"),
    FixMethod("jtt", "Just train twice", "Liu et al., 2021", ("class",), training="jtt"),
    FixMethod(
        "dfr", "Last layer retrained on groups of val", "Kirichenko et al., 2023",
        ("class", "group"), training="dfr",
    ),
)  # fmt: skip

FIX_METHODS: Mapping[str, FixMethod] = {method.name: method for method in _ALL}
"""All methods by name: with hints, controls, and baselines without hints."""


def fix_method(name: str) -> FixMethod:
    """The method of a name.

    Raises:
        InputError: there is none.

    >>> fix_method("dfr").sees
    ('class', 'group')
    """
    if name not in FIX_METHODS:
        close = nearest(str(name), FIX_METHODS, count=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise InputError(
            f"there is no way of fixing called {short_repr(name)}. {hint}There are {', '.join(FIX_METHODS)}."
        )
    return FIX_METHODS[name]
