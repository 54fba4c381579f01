"""What the claims on captions and those on questions of several decoders share: scenes, measures, and verdict rows."""

from collections.abc import Sequence
from itertools import count, islice

import torch
from torch import Tensor

from research.claims.language_networks import SeededModel
from research.claims.maps import MapMeasurements, verdict_row
from research.claims.maps import Scene as Place
from research.claims.measure import unpaired_difference
from saywhy.metrics.diversity import bleu, distinct, repeated, similarity
from saywhy.toybox import Scene, scene
from saywhy.toybox.models.classifier import normalised

FIRST = (1, 3, 6)
"""The values of k of oracle@k."""


def scenes_of(split: str, objects: int, first: int, number: int) -> list[Scene]:
    """Return ``number`` scenes with a given number of objects, from the index ``first`` on."""
    drawn = (scene(split, index) for index in count(first))  # type: ignore[arg-type]
    return list(islice((one for one in drawn if len(one.objects) == objects), number))


@torch.no_grad()
def trunk_features(network: SeededModel, scenes: list[Scene]) -> Tensor:
    """Return the trunk's features of scenes."""
    images = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) for one in scenes])
    trunk = network.model.module.trunk
    parts = [trunk(normalised(part.float() / 255)) for part in images.split(50)]  # type: ignore[operator]
    return torch.cat(parts)


def best_of(texts: list[str], people: list[str], k: int) -> float:
    """Return the oracle@k of one scene: the best BLEU of its first k texts."""
    return max(bleu(text, people) for text in texts[:k])


def measures_of(texts: list[str], people: list[str]) -> dict[str, object]:
    """Return distinct-n, oracle@k, repeated texts and similarity, of the texts of one scene."""
    found: dict[str, object] = {f"distinct-{n}": distinct([texts], n) for n in (1, 2, 3, 4)}
    found |= {f"oracle@{k}": best_of(texts, people, k) for k in FIRST}
    found["repeated"] = repeated([texts])
    found["similarity"] = similarity([texts]) if len(texts) > 1 else 1.0
    return found


def add_measures(measurements: MapMeasurements, who: str, found: dict[str, object], objects: int, place: Place) -> None:
    """Add the measures of one scene, once for all scenes and once for those with as many objects."""
    for what, value in found.items():
        measurements.add(what, who, value, place)
        measurements.add(f"{what} of {objects}", who, value, place)


def gain_row(
    measurements: MapMeasurements, text: str, what: str, who: tuple[str, str], counts: Sequence[int]
) -> list[object]:
    """Return the verdict row: is the first's gain over the second larger with the most objects than with the fewest?"""
    gains = []
    for objects in (max(counts), min(counts)):
        ours, theirs = (measurements.of(f"{what} of {objects}", one) for one in who)
        gains.append(ours.with_values(ours.values - theirs.values))
    return verdict_row(text, unpaired_difference(*gains))
