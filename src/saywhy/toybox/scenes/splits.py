"""The splits: which things come together, and where."""

from saywhy.errors import InputError, nearest
from saywhy.toybox.scenes.backgrounds import BACKGROUNDS
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.kinds import CATALOGUE, KINDS, UNSEEN_KINDS

SPLITS: dict[str, str] = {
    "train": "any kinds, anywhere",
    "val": "as train, other scenes",
    "test": "as train, other scenes",
    "biased-train": "each kind is nearly always at its home: fish at sea, cars in the street",
    "biased-val": "as biased-train, other scenes",
    "biased-test": "no kind is ever at its home",
    "talk-train": "more things, oftener several of a kind: to be talked about",
    "talk-val": "as talk-train, other scenes",
    "talk-test": "as talk-train, other scenes",
    "priors-train": "as talk-train; every second answer is rare",
    "priors-val": "as priors-train, other scenes",
    "priors-test": "as talk-train; the other answers are rare",
    "ambiguous-train": "as talk-train; half of the pictures are blurred, and people disagree about them",
    "ambiguous-val": "as ambiguous-train, other scenes",
    "ambiguous-test": "as ambiguous-train, other scenes",
    "unseen": "at least one thing of a kind that no other split contains",
}
"""The splits by name, and what is special about each."""

TIE = 0.95
"""How often a thing in biased-train and biased-val is at its home."""


def check(split: str, index: int) -> None:
    """Refuse a split that does not exist, or an index that is not a whole number from 0 on."""
    if split not in SPLITS:
        close = nearest(str(split), SPLITS, count=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise InputError(f"Toybox has no split {split!r}. {hint}Choose one of: {', '.join(SPLITS)}.")
    if isinstance(index, bool) or not hasattr(index, "__index__") or index < 0:
        raise InputError(f"a scene's index is a whole number from 0 on, but {index!r} came. Give 0, 1, 2, ...")


def contents(split: str, dice: Dice) -> tuple[str, list[str]]:
    """A background and the kinds of one to four things, as the split prescribes."""
    if split.startswith(("talk-", "priors-", "ambiguous-")):
        return dice.pick(list(BACKGROUNDS)), _any(2 + dice.chance(0.75) + dice.chance(0.6), dice, twice=0.3)
    count = 1 + dice.chance(0.68) + dice.chance(0.42) + dice.chance(0.24)
    if split in ("biased-train", "biased-val"):
        return _at_home(count, dice)
    kinds = _any(count, dice)
    if split == "unseen":
        kinds[0] = dice.pick(UNSEEN_KINDS)
    places = [name for name in BACKGROUNDS if split != "biased-test" or name not in {CATALOGUE[k].home for k in kinds}]
    return dice.pick(places), kinds


def _any(count: int, dice: Dice, twice: float = 0.15) -> list[str]:
    """Kinds at random; now and then one comes twice, so that there is something to count."""
    kinds = [dice.pick(KINDS)]
    for _ in range(count - 1):
        kinds.append(kinds[-1] if dice.chance(twice) else dice.pick(KINDS))
    return kinds


def _at_home(count: int, dice: Dice) -> tuple[str, list[str]]:
    """A home and what belongs there; each thing is a stray with the probability 1 - TIE."""
    home = CATALOGUE[dice.pick(KINDS)].home
    family = [name for name in KINDS if CATALOGUE[name].home == home]
    strays = [name for name in KINDS if CATALOGUE[name].home != home]
    return home, [dice.pick(family) if dice.chance(TIE) else dice.pick(strays) for _ in range(count)]
