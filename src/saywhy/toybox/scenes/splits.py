"""The splits: which objects occur together, and on which background."""

from saywhy.errors import InputError, nearest
from saywhy.toybox.scenes.backgrounds import BACKGROUNDS
from saywhy.toybox.scenes.kinds import CATALOGUE, KINDS, UNSEEN_KINDS
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.validation import short_repr, whole_number

SPLITS: dict[str, str] = {
    "train": "any kinds, anywhere",
    "val": "as train, other scenes",
    "test": "as train, other scenes",
    "biased-train": "each kind is nearly always at its home: fish at sea, cars in the street",
    "biased-val": "as biased-train, other scenes",
    "biased-test": "no kind is ever at its home",
    "talk-train": "more objects, more often several of a kind; for questions and captions",
    "talk-val": "as talk-train, other scenes",
    "talk-test": "as talk-train, other scenes",
    "priors-train": "as talk-train; every second answer is rare",
    "priors-val": "as priors-train, other scenes",
    "priors-test": "as talk-train; the other answers are rare",
    "ambiguous-train": "as talk-train; half of the pictures are blurred, and annotators disagree about them",
    "ambiguous-val": "as ambiguous-train, other scenes",
    "ambiguous-test": "as ambiguous-train, other scenes",
    "unseen": "at least one object of a kind that no other split contains",
}
"""The splits by name, each with its description."""

TIE = 0.95
"""Probability that an object in biased-train and biased-val is at its home."""


def check(split: str, index: int) -> None:
    """Check that a split exists, and that an index is a whole number from 0."""
    if split not in SPLITS:
        close = nearest(str(split), SPLITS, count=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise InputError(f"Toybox has no split {short_repr(split)}. {hint}Choose one of: {', '.join(SPLITS)}.")
    whole_number("a scene's index", index)


def contents(split: str, rng: SeededRandom) -> tuple[str, list[str]]:
    """Return a background and the kinds of one to four objects, as the split prescribes."""
    if split.startswith(("talk-", "priors-", "ambiguous-")):
        return rng.choice(list(BACKGROUNDS)), _any(2 + rng.bernoulli(0.75) + rng.bernoulli(0.6), rng, twice=0.3)
    count = 1 + rng.bernoulli(0.68) + rng.bernoulli(0.42) + rng.bernoulli(0.24)
    if split in ("biased-train", "biased-val"):
        return _at_home(count, rng)
    kinds = _any(count, rng)
    if split == "unseen":
        kinds[0] = rng.choice(UNSEEN_KINDS)
    places = [name for name in BACKGROUNDS if split != "biased-test" or name not in {CATALOGUE[k].home for k in kinds}]
    return rng.choice(places), kinds


def _any(count: int, rng: SeededRandom, twice: float = 0.15) -> list[str]:
    """Return random kinds; with the probability ``twice`` a kind is repeated, for counting."""
    kinds = [rng.choice(KINDS)]
    for _ in range(count - 1):
        kinds.append(kinds[-1] if rng.bernoulli(twice) else rng.choice(KINDS))
    return kinds


def _at_home(count: int, rng: SeededRandom) -> tuple[str, list[str]]:
    """Return a home and kinds that belong there; each object is a stray with the probability 1 - TIE."""
    home = CATALOGUE[rng.choice(KINDS)].home
    family = [name for name in KINDS if CATALOGUE[name].home == home]
    strays = [name for name in KINDS if CATALOGUE[name].home != home]
    return home, [rng.choice(family) if rng.bernoulli(TIE) else rng.choice(strays) for _ in range(count)]
