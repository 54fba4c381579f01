"""The classifiers of the experiments: the shipped one, retrained ones, and ones with hidden layers.

CAM is defined for networks that end in global average pooling and a linear layer (form ``"gap"``), as the classifier of
Toybox does. For such a network Grad-CAM is the same map, and most of its ablations change nothing. The second form
(``"mlp"``) ends as VGG does: max-pooling, then hidden layers. It shares the trunk of the first; only its head is
trained, which takes seconds.
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
"""Training and test scenes of the retrained networks (half the training scenes of the shipped one)."""

PHASES = (Phase(8, 64), Phase(1, 96), Phase(1, 128))
"""Two fifths of the training of the shipped network: four minutes on two cores."""

CELLS, HIDDEN = 4, 128
"""Of the head with hidden layers: cells along each side of the max-pooled grid, and units of a layer."""

HEAD_SCENES, HEAD_STEPS, DROPPED = 3_000, 1_200, 0.3
"""Training of such a head: scenes (features also mirrored), steps, and dropout rate."""

HEAD_PLAN = Plan((), batch=64, rate=2e-3, decay=0.05, warmup=50)


@dataclass(frozen=True)
class Classifier:
    """A network with its training seed; seed 0 has the shipped trunk.

    Attributes:
        seed: the training seed.
        model: the network.
        form: how it ends: ``"gap"`` (CAM's form), ``"mlp"``, or the name of another network.
    """

    seed: int
    model: saywhy.Model
    form: str = "gap"


class MLPClassifier(nn.Module):
    """The trunk of a Toybox classifier, max-pooling to 4 × 4 cells, and two hidden layers.

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
        """Return the input of the head, [batch, channel, 4, 4]."""
        return self.pool(self.blocks(self.stem(images)))

    def forward(self, images: Images) -> Float[Tensor, "batch kind"]:
        """Return the logits of images normalised as for the trunk."""
        return self.head(self.pooled(images))


def classifier(seed: int, progress: Progress) -> Classifier:
    """Return ``toybox:classifier``; seeds other than 0 are trained two fifths as long, on half as many scenes."""
    if not seed:
        return Classifier(seed, saywhy.load("toybox:classifier"))
    file = FOLDER / f"toybox-classifier-{seed}.safetensors"
    if not file.exists():
        recipe.train(file, seed, SCENES, TESTS, PHASES, progress)
    return Classifier(seed, saywhy.load("toybox:classifier", file))


def mlp_classifier(seed: int, progress: Progress) -> Classifier:
    """Return the trunk of ``classifier(seed)`` with hidden layers after it; only these are trained."""
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
    """Train the head on a fixed trunk, on scenes that the trunk was not trained on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MLPClassifier(trunk).eval()
    nn.init.constant_(network.head[-1].bias, -2.2)  # type: ignore[arg-type]  # the logit of 0.1, the base rate of a kind
    features, labels = head_features(network, HEAD_SCENES, progress)
    features, labels = torch.cat([features, features.flip(-1)]), labels.repeat(2, 1)
    bar = progress.add_task(f"training the head of network {seed}", total=HEAD_STEPS, loss="")

    def loss(head: nn.Module, step: int, share: slice) -> Tensor:
        taken = torch.randint(len(features), (HEAD_PLAN.batch,), generator=step_generator(seed, -1 - step))[share]
        return F.binary_cross_entropy_with_logits(head(features[taken]), labels[taken])

    def show_loss(step: int, loss: float) -> None:
        progress.update(bar, completed=step, loss=f"loss {loss:.4f}")

    settings: dict[str, Any] = {}
    optimize(network.head, loss, HEAD_STEPS, HEAD_PLAN, settings, report=show_loss)
    metadata = {"seed": str(seed), "scenes": str(HEAD_SCENES), "steps": str(HEAD_STEPS), "kinds": ",".join(KINDS)}
    save_weights(file, half(network.state_dict()), metadata)


def head_features(
    network: MLPClassifier, count: int, progress: Progress
) -> tuple[FeatureMaps, Float[Tensor, "scene kind"]]:
    """Return the head's inputs and the kinds of scenes, which follow those that trunks are trained on."""
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
