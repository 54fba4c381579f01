"""The classifiers that the experiments explain: the one that ships, the same trained again, and one not of CAM's form.

CAM is made for networks that end in global average pooling and a linear layer (form ``"completeness_error"``), as the
classifier of Toybox does; of such a network Grad-CAM is the same map, and most of its ablations change nothing. So
there is a second form (``"mlp"``) that ends as VGG does: maxima, then hidden layers. It has the trunk of the first, and
its head alone is trained, which takes seconds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

import saywhy
from research.claims.language_networks import FOLDER
from saywhy.shapes import FeatureMaps, Images
from saywhy.toybox import KINDS, scene
from saywhy.toybox.models.classifier import WIDTHS, ToyboxClassifier, normalised
from saywhy.toybox.recipes import classifier as recipe
from saywhy.training.checkpoint import half, save_weights
from saywhy.training.loop import Phase, Plan, optimize, step_generator

SEEDS = 3
"""Networks of each form."""

SCENES, TESTS = 6_000, 200
"""Scenes to train the others on (half of those that the shipped one is trained on), and to measure them on."""

PHASES = (Phase(8, 64), Phase(1, 96), Phase(1, 128))
"""Two fifths of the work of the shipped one: four minutes on two cores."""

CELLS, HIDDEN = 4, 128
"""Of the head with hidden layers: cells along each side of which the maximum is taken, and units of a layer."""

HEAD_SCENES, HEAD_STEPS, DROPPED = 3_000, 1_200, 0.3
"""To train such a head: scenes (what is seen of them also mirrored), steps, and the share of units left out."""

HEAD_PLAN = Plan((), batch=64, rate=2e-3, decay=0.05, warmup=50)


@dataclass(frozen=True)
class Classifier:
    """A network with the seed from which it was trained; of seed 0 the trunk is the one that ships.

    Attributes:
        seed: see above.
        model: the network.
        form: how it ends: ``"completeness_error"`` (CAM's form), ``"mlp"``, or whatever another network is called.
    """

    seed: int
    model: saywhy.Model
    form: str = "gap"


class MLPClassifier(nn.Module):
    """The trunk of a classifier of Toybox, maxima over 4 × 4 cells, and two hidden layers before the logits.

    >>> net = MLPClassifier(ToyboxClassifier()).eval()
    >>> net(torch.zeros(2, 3, 128, 128)).shape, net(torch.zeros(1, 3, 64, 96)).shape
    (torch.Size([2, 20]), torch.Size([1, 20]))
    """

    def __init__(self, trunk: ToyboxClassifier) -> None:
        super().__init__()
        self.stem, self.blocks = trunk.stem, trunk.blocks
        self.pool = nn.AdaptiveMaxPool2d(CELLS)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * CELLS**2, HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPPED),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPPED),
            nn.Linear(HIDDEN, len(KINDS)),
        )

    def pooled(self, images: Images) -> FeatureMaps:
        """What the head is given, [batch, channel, 4, 4]."""
        return self.pool(self.blocks(self.stem(images)))

    def forward(self, images: Images) -> Float[Tensor, "batch kind"]:
        """Logits of images that are normalised as for the trunk."""
        return self.head(self.pooled(images))


def classifier(seed: int, progress: Progress) -> Classifier:
    """``toybox:classifier``; of another seed than 0 trained for two fifths as long, on half as many scenes."""
    if not seed:
        return Classifier(seed, saywhy.load("toybox:classifier"))
    file = FOLDER / f"toybox-classifier-{seed}.safetensors"
    if not file.exists():
        recipe.train(file, seed, SCENES, TESTS, PHASES, progress)
    return Classifier(seed, saywhy.load("toybox:classifier", file))


def mlp_classifier(seed: int, progress: Progress) -> Classifier:
    """The trunk of ``classifier(seed)`` with hidden layers behind it, which alone were trained, for each seed."""
    known = classifier(seed, progress).model
    file = FOLDER / f"toybox-mlp-{seed}.safetensors"
    if not file.exists():
        train_head(file, seed, known.module, progress)  # type: ignore[arg-type]
    module = saywhy.load(MLPClassifier(ToyboxClassifier()), file).module.eval()
    return Classifier(
        seed,
        saywhy.Model(
            module, f"{known.name} with hidden layers", known.preprocess, known.labels, multilabel=True, layer="blocks"
        ),
        "mlp",
    )


def train_head(file: Path, seed: int, trunk: ToyboxClassifier, progress: Progress) -> None:
    """Train the head behind a trunk that stays as it is, on scenes that the trunk was not trained on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MLPClassifier(trunk).eval()
    nn.init.constant_(network.head[-1].bias, -2.2)  # type: ignore[arg-type]  # the logit of 0.1, as often as kinds are
    features, labels = head_features(network, HEAD_SCENES, progress)
    features, labels = torch.cat([features, features.flip(-1)]), labels.repeat(2, 1)
    bar = progress.add_task(f"training the head of network {seed}", total=HEAD_STEPS, loss="")

    def loss(head: nn.Module, step: int, share: slice) -> Tensor:
        taken = torch.randint(len(features), (HEAD_PLAN.batch,), generator=step_generator(seed, -1 - step))[share]
        return F.binary_cross_entropy_with_logits(head(features[taken]), labels[taken])

    def report(step: int, loss: float) -> None:
        progress.update(bar, completed=step, loss=f"loss {loss:.4f}")

    settings: dict[str, Any] = {}
    optimize(network.head, loss, HEAD_STEPS, HEAD_PLAN, settings, report=report)
    told = {"seed": str(seed), "scenes": str(HEAD_SCENES), "steps": str(HEAD_STEPS), "kinds": ",".join(KINDS)}
    save_weights(file, half(network.state_dict()), told)


def head_features(
    network: MLPClassifier, count: int, progress: Progress
) -> tuple[FeatureMaps, Float[Tensor, "scene kind"]]:
    """What the head is given of scenes behind those that trunks are trained on, and the kinds that are in them."""
    bar = progress.add_task("drawing for the head", total=count, loss="")
    features, labels = [], []
    for start in range(0, count, 100):
        numbers = range(recipe.SCENES + start, recipe.SCENES + min(start + 100, count))
        drawn = [scene("train", index) for index in numbers]
        images = torch.stack([torch.from_numpy(one.image) for one in drawn]).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            features.append(network.pooled(normalised(images)))
        labels += [torch.from_numpy(one.labels) for one in drawn]
        progress.advance(bar, len(drawn))
    return torch.cat(features), torch.stack(labels)
