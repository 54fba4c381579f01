"""Networks that say how certain they are: U-CAM's, what it is compared with, and controls that know nothing.

They see and read as ``toybox:vqa`` does, and learn where to look and what to answer. All of one seed go on from the
same network, which has learnt answers alone; they see the same questions in the same order, in as many steps.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import saywhy
from research.claims.attention_network import AttentionVQAHead, VisualFeatures, initialized_head
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.recipes.ucam import Questions, asking, optimizers
from saywhy.training.loop import Plan, optimize
from saywhy.uncertainty import UCAM, Gate
from saywhy.uncertainty.loss import cross_entropy

FOLDER = Path("out/claims")
PRETRAINING, STEPS = 1000, 400
"""Steps that all networks of a seed have in common, and steps of each by itself."""

STRENGTH = 0.1
"""Of the surgery."""

RUNS: dict[str, UCAM | None] = {
    "base": None,
    "no surgery": UCAM(gate=Gate(0.0)),
    "U-CAM": UCAM(gate=Gate(STRENGTH)),
    "literal": UCAM(gate=Gate(STRENGTH, "literal")),
    "shuffled": UCAM(gate=Gate(STRENGTH, "shuffled")),
    "random": UCAM(gate=Gate(STRENGTH, "random")),
    "uniform": UCAM(gate=Gate(STRENGTH, "uniform")),
    "answer": UCAM(gate=Gate(STRENGTH, "answer")),
    "additive": UCAM(udl="additive", gate=Gate(STRENGTH)),
    "P-GCA": UCAM("predictive", gate=Gate(STRENGTH)),
    "ten times": UCAM(gate=Gate(10 * STRENGTH)),
}
"""By name how they are trained; the base learns answers alone."""

CONTROLS = ("no surgery", "shuffled", "random", "uniform", "answer")
"""What U-CAM must beat besides the base: its losses without the mask, or with one that knows nothing of certainty."""

PLAN = Plan((), batch=32, rate=2e-3, clip=5.0)
FURTHER = Plan((), batch=32, rate=5e-4, clip=5.0)
"""How networks learn at first, and how each by itself."""


class Learner(nn.Module):
    """What learns, by the loss of a run."""

    def __init__(self, head: AttentionVQAHead, how: UCAM | None) -> None:
        super().__init__()
        self.head, self.how = head, how

    def forward(self, features: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        """The loss of some questions."""
        if self.how is not None:
            return self.how.vqa_loss(self.head, features, words, shares)
        return cross_entropy(self.head(features, words).logits, shares).mean()


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run.

    Attributes:
        run, seed: which.
        head: of features and words.
        seconds: that its training took.
    """

    run: str
    seed: int
    head: AttentionVQAHead
    seconds: float

    def model(self, visual: VisualFeatures) -> saywhy.Model:
        """The network of images and questions."""
        return saywhy.load(VQAModel(visual, self.head), labels=ANSWERS)


def run_name(run: str, seed: int, items: float, scenes: int) -> str:
    """What files of a run are called; other settings, other names."""
    settings = f"{PLAN.settings()} {FURTHER.settings()} {PRETRAINING} {STEPS} {RUNS.get(run)!r} {items} {scenes}"
    return f"{run.lower().replace(' ', '-')}-{seed}-{sha256(settings.encode()).hexdigest()[:8]}"


def pretrained_head(seed: int, base: VQAModel, shown: Questions, items: float = 1.0) -> AttentionVQAHead:
    """A network that has learnt to answer, and not yet to say how certain it is; trained unless it was before."""
    head = initialized_head(seed, base, shown.features.shape[1])
    file = FOLDER / f"{run_name('begun', seed, items, len(shown))}.safetensors"
    _train(head, None, replace(PLAN, seed=seed), int(items * PRETRAINING), shown, file)
    return head


def trained_network(run: str, seed: int, base: VQAModel, shown: Questions, items: float = 1.0) -> TrainedNetwork:
    """The network of a run, trained unless it was trained before; of fewer steps if ``items`` is less than 1."""
    head, plan = pretrained_head(seed, base, shown, items), replace(FURTHER, seed=seed + 1000)
    file = FOLDER / f"doubter-{run_name(run, seed, items, len(shown))}.safetensors"
    seconds = _train(head, RUNS[run], plan, int(items * STEPS), shown, file)
    return TrainedNetwork(run, seed, head.eval(), seconds)


def _train(head: AttentionVQAHead, how: UCAM | None, plan: Plan, steps: int, shown: Questions, file: Path) -> float:
    """Train a network, or take the weights that were kept; returns the seconds that it took."""
    if file.exists():
        head.load_state_dict(load_file(file))
        with safe_open(file, "pt") as kept:
            return float(kept.metadata()["seconds"])
    settings = {**plan.settings(), "how": repr(how), "steps": steps, "scenes": len(shown)}
    checkpoint = file.with_suffix(".checkpoint")
    seconds = optimize(
        Learner(head, how), asking(shown, plan), steps, plan, settings, checkpoint, optimizers=optimizers
    )
    weights = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    save_file(weights, file, {"seconds": f"{seconds:.1f}"})
    checkpoint.unlink(missing_ok=True)
    return seconds
