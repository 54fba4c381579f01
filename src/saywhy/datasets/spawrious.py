"""Spawrious (Lynch et al., 2023): four breeds of dogs at six locations, which agree with the breed in "train".

    spawrious224/0/desert/bulldog/….png         3,168 images in each folder, and as many below spawrious224/1

A challenge says which breeds are where. In a one-to-one challenge (o2o) the training environments 0 and 1 are taken
from the trees of the same number: of every breed 3,072 and 2,756 images (97 % and 87 %) at its own location, and 96 and
412 at one location that all breeds share. In a many-to-many challenge (m2m) two breeds share two locations, all taken
from tree 0. In "test" the locations are others or exchanged. The table ``CHALLENGES`` is that of the authors' reader
(repository aengusl/spawrious, ``spawrious/torch.py``).

Differs from the release: it takes the first images as the file system happens to list them, ours are sorted by name;
and it has no "val", for which a part of "train" is taken (``saywhy.datasets.hashed_splits``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saywhy.datasets.hashed_splits import check_classes, with_val
from saywhy.datasets.json_records import some
from saywhy.datasets.labelled import LabelledImages, indices_of
from saywhy.errors import InputError, nearest

CLASSES = ("bulldog", "corgi", "dachshund", "labrador")
"""The breeds in the order of the release's class numbers."""

LOCATIONS = ("beach", "desert", "dirt", "jungle", "mountain", "snow")

IMAGES = 3168
"""Images in a published folder."""

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Those that the release reads."""


@dataclass(frozen=True)
class Challenge:
    """The locations of one challenge, each in the order bulldog, dachshund, labrador, corgi.

    Attributes:
        train: of "train".
        test: of "test".
        shared: the location of all breeds in "train"; None in a many-to-many challenge.
    """

    train: tuple[str, str, str, str]
    test: tuple[str, str, str, str]
    shared: str | None = None

    def parts(self) -> Iterator[tuple[str, int, str, str, int | None]]:
        """Yield the folders: split, tree, location, breed, and the number of images; None is all.

        >>> list(CHALLENGES["o2o_easy"].parts())[0]
        ('train', 0, 'desert', 'bulldog', 3072)
        """
        for number, breed in enumerate(("bulldog", "dachshund", "labrador", "corgi")):
            for environment, share in enumerate((0.97, 0.87)):
                if self.shared is None:
                    place = number ^ environment  # the other breed of the pair has the places in the other order
                    yield "train", 0, self.train[place], breed, IMAGES
                    yield "test", 0, self.test[place], breed, None
                else:
                    most = int(share * IMAGES)
                    yield "train", environment, self.train[number], breed, most
                    yield "train", environment, self.shared, breed, IMAGES - most
                    yield "test", environment, self.test[number], breed, None


CHALLENGES = {
    "o2o_easy": Challenge(("desert", "jungle", "dirt", "snow"), ("dirt", "snow", "desert", "jungle"), "beach"),
    "o2o_medium": Challenge(("mountain", "beach", "dirt", "jungle"), ("jungle", "dirt", "beach", "snow"), "desert"),
    "o2o_hard": Challenge(("jungle", "mountain", "snow", "desert"), ("mountain", "snow", "desert", "jungle"), "beach"),
    "m2m_easy": Challenge(("desert", "mountain", "dirt", "jungle"), ("dirt", "jungle", "mountain", "desert")),
    "m2m_medium": Challenge(("beach", "snow", "mountain", "desert"), ("desert", "mountain", "beach", "snow")),
    "m2m_hard": Challenge(("dirt", "jungle", "snow", "beach"), ("snow", "beach", "dirt", "jungle")),
}
"""The published challenges."""


def find_spawrious(path: Path) -> Path | None:
    """Return the folder that holds the trees, this one or its folder spawrious224; None where there is none."""
    for folder in (path, path / "spawrious224"):
        for tree in ("0", "1"):
            if any((folder / tree / place / breed).is_dir() for place in LOCATIONS for breed in CLASSES):
                return folder
    return None


def read_spawrious(folder: Path, challenge: str | None = None) -> LabelledImages:
    """Read the images of a challenge, with the groups "bulldog, desert", ….

    Args:
        folder: the folder that holds the trees 0 and 1.
        challenge: a key of ``CHALLENGES``; None is the only one whose folders are all there.

    Raises:
        InputError: the challenge is unknown, none or several are complete and none is named, or a folder has no image.
    """
    challenge = _complete(folder) if challenge is None else challenge
    if challenge not in CHALLENGES:
        near = nearest(challenge, CHALLENGES, count=1)
        hint = f" Nearest: '{near[0]}'." if near else ""
        raise InputError(f"a challenge must be one of {', '.join(CHALLENGES)}, got '{challenge}'.{hint}")
    files, labels, splits, groups = [], [], [], []
    for split, tree, location, breed, most in CHALLENGES[challenge].parts():
        below = folder / str(tree) / location / breed
        names = sorted(each.name for each in below.glob("*") if each.suffix.lower() in SUFFIXES)[:most]
        if not names:
            raise InputError(f"'{below}' holds no image, but {challenge} needs it for '{split}'. Is it unpacked?")
        files += [f"{tree}/{location}/{breed}/{name}" for name in names]
        labels += [breed] * len(names)
        splits += [split] * len(names)
        groups += [f"{breed}, {location}"] * len(names)
    name = f"Spawrious {challenge}"
    kept = with_val(name, files, splits)
    check_classes(name, labels, kept)
    known = tuple(f"{breed}, {place}" for breed in CLASSES for place in LOCATIONS if f"{breed}, {place}" in groups)
    numbers = indices_of(groups, known)
    return LabelledImages(folder, tuple(files), indices_of(labels, CLASSES), CLASSES, kept, name, numbers, known)


def _complete(folder: Path) -> str:
    """Return the only challenge whose folders are all there."""
    found = [
        name
        for name, challenge in CHALLENGES.items()
        if all((folder / str(tree) / place / breed).is_dir() for _, tree, place, breed, _ in challenge.parts())
    ]
    if len(found) == 1:
        return found[0]
    state = f"of several challenges: {some(found, 6)}" if found else "of no challenge completely"
    example = f"{folder}:{(found or ['o2o_easy'])[0]}"
    raise InputError(f"'{folder}' holds the folders {state}. Name the challenge behind the path: {example}.")
