"""The recipe of ``toybox:vqa``: ``python -m saywhy.toybox.recipes.vqa --out weights.safetensors``.

First the trunk's last layers learn to predict kind, colour and centre of the object in every cell of a grid, and which
words of a question name it. Then trunk and head learn to answer questions. The classifier in the trunk is frozen, so
its features of every image are computed once. Attention is not supervised.
"""

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from jaxtyping import Bool, Float, Int
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.models import load
from saywhy.shapes import FeatureMaps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import QuestionOnly, VQAModel
from saywhy.toybox import COLOURS, KINDS
from saywhy.toybox.language import ANSWERS, TYPES
from saywhy.toybox.language.question import plural
from saywhy.toybox.models.classifier import normalised
from saywhy.toybox.models.vision_language import CHANNELS, ToyboxTrunk, ToyboxVQAHead
from saywhy.toybox.recipes.language_data import LanguageData, draw_language_data
from saywhy.training import command
from saywhy.training.checkpoint import check_name, half, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator

SCENES = 20_000
TEST_SCENES = 2_000
TRUNK_STEPS, ANSWER_STEPS = 1_000, 6_500
"""Training steps of the trunk alone, and of trunk and answers."""

QUESTIONS_PER_SCENE = 5
"""Questions per scene in one step."""

SMALLER_WEIGHTS = {
    "colour": 0.7,
    "kind": 0.5,
    "exists": 1.0,
    "compare": 1.0,
    "largest": 1.0,
    "smallest": 1.5,
    "count": 1.5,
}
TYPE_WEIGHTS = [SMALLER_WEIGHTS.get(name, 2.5) for name in TYPES]
"""Sampling weights of the types of questions in training: types that are harder to learn have larger weights."""

CENTRE_WEIGHT, NAME_WEIGHT = 20.0, 5.0
"""Weights of positive centres (one cell of a hundred has one) and of positive names (most words name no object)."""

PLAN = Plan((), batch=48, rate=2e-3, clip=5.0)


class VQALearner(nn.Module):
    """The trained parts: the trunk's last layers, the VQA head, and an auxiliary head for the cells."""

    def __init__(self, network: VQAModel, known: Vocabulary) -> None:
        super().__init__()
        self.features: nn.Module = network.trunk.features  # type: ignore[assignment]
        self.head: ToyboxVQAHead = network.head  # type: ignore[assignment]
        self.means: Tensor
        self.register_buffer("means", meanings(known), persistent=False)
        self.measures = nn.Conv2d(CHANNELS, 3, 1)

    def forward(
        self,
        depths: Float[Tensor, "scene depth 16 16"],
        cells: Int[Tensor, "scene 6 16 16"],
        scenes: Int[Tensor, " question"],
        questions: Int[Tensor, "question word"],
        answers: Int[Tensor, " question"] | None = None,
    ) -> Tensor:
        """Return the loss: of the cells, of the words that name objects, and of the answers if given."""
        features = self.features(depths)
        is_centre, objects = cells[:, 2] > 0, self.head.objects
        centres, measures = objects.centre(features)[:, 0], self.measures(features)
        loss = F.cross_entropy(objects.kind(features), cells[:, 0])
        loss = loss + F.cross_entropy(objects.colour(features), cells[:, 1])
        loss = loss + CENTRE_WEIGHT * F.binary_cross_entropy_with_logits(centres, is_centre.float())
        offsets = cells[:, 3:].movedim(1, -1)[is_centre] / 256
        loss = loss + F.smooth_l1_loss(measures.movedim(1, -1)[is_centre], offsets, beta=0.05)
        loss = loss + self._grounding_loss(features, cells, scenes, questions)
        if answers is not None:
            loss = loss + F.cross_entropy(self.head(features[scenes], questions).logits, answers)
        return loss

    def _grounding_loss(self, features: Tensor, cells: Tensor, scenes: Tensor, questions: Tensor) -> Tensor:
        """Return the loss of word grounding: a word refers to all objects of its kind or its colour."""
        found = self.head.objects(features)
        kinds, colours = (part.flatten(1).gather(1, found.at)[scenes] for part in (cells[:, 0], cells[:, 1]))
        log_odds = self.head.grounding.log_odds(found.objects[scenes], self.head.embedding(questions))
        words = questions.unsqueeze(1).expand_as(log_odds)
        right = (self.means[kinds] | self.means[len(KINDS) + 1 + colours]).gather(2, words)
        weight = log_odds.new_tensor(NAME_WEIGHT)
        return F.binary_cross_entropy_with_logits(log_odds[words != 0], right[words != 0].float(), pos_weight=weight)


def meanings(known: Vocabulary) -> Bool[Tensor, "trait word"]:
    """Return which words name each kind (and a row for no kind), and each colour (and a row for no colour)."""
    named = [{kind, plural(kind)} for kind in KINDS] + [set()] + [{colour} for colour in COLOURS] + [set()]
    return torch.tensor([[word in names for word in known.words] for names in named])


def fresh(seed: int, known: Vocabulary) -> VQAModel:
    """Return a VQA model with random weights, and the frozen layers of the classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = ToyboxTrunk()
        network = VQAModel(trunk, ToyboxVQAHead(len(known), len(ANSWERS)))
    classifier = load("toybox:classifier").module
    for part in ("stem", "blocks"):
        getattr(trunk, part).load_state_dict(getattr(classifier, part).state_dict())
        getattr(trunk, part).requires_grad_(False)
    return network


def frozen_features(trunk: ToyboxTrunk, images: Tensor) -> Tensor:
    """Return the output of the trunk's frozen layers for images (uint8): [scene, depth, 16, 16], float16."""
    trunk.eval()
    with torch.inference_mode():
        return torch.cat([trunk.depths(normalised(part.float() / 255)).half() for part in images.split(100)])


def sample_questions(answers: Tensor, plan: Plan, step: int, share: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Sample scenes and questions (at most ``QUESTIONS_PER_SCENE`` per scene) for a share of a step.

    Returns:
        The scenes; for each question the index of its scene among these; for each question its type.
    """
    generator = step_generator(plan.seed, -1 - step)
    taken = torch.randint(len(answers), (plan.batch,), generator=generator)
    keys = torch.rand(plan.batch, answers.shape[1], generator=generator) ** (1 / torch.tensor(TYPE_WEIGHTS))
    keys = keys.masked_fill(answers[taken] < 0, -1)
    best, types = (part[share] for part in keys.topk(QUESTIONS_PER_SCENE, 1))
    scenes, place = (best >= 0).nonzero(as_tuple=True)
    return taken[share], scenes, types[scenes, place]


def learn(
    network: VQAModel,
    depths: Tensor,
    scenes: LanguageData,
    known: Vocabulary,
    plan: Plan,
    steps: tuple[int, int] = (TRUNK_STEPS, ANSWER_STEPS),
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train trunk and head in place; returns the seconds. See :func:`saywhy.training.loop.optimize`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        learner = VQALearner(network, known)
    words, answers = scenes.questions(known)

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = sample_questions(answers, plan, step, share)
        inputs = depths[taken].float(), scenes.cells[taken].long(), which, words[taken][which, types]
        return model(*inputs) if step < steps[0] else model(*inputs, answers[taken][which, types])

    settings = {
        **plan.settings(),
        "scenes": len(depths),
        "trunk_steps": steps[0],
        "answer_steps": steps[1],
        "words": list(known.words),
        "type_weights": TYPE_WEIGHTS,
        "questions_per_scene": QUESTIONS_PER_SCENE,
        "positive_weights": [CENTRE_WEIGHT, NAME_WEIGHT],
    }
    seconds = optimize(learner, loss, sum(steps), plan, settings, checkpoint, every, report, devices)
    network.eval()
    return seconds


def accuracy(network: nn.Module, features: Tensor, scenes: LanguageData, known: Vocabulary) -> dict[str, float]:
    """Return the accuracy "overall" and of every type of questions, of a network of features and questions."""
    return accuracy_by_type(network, features, *scenes.questions(known))


def accuracy_by_type(
    network: nn.Module,
    features: FeatureMaps,
    words: Int[Tensor, "scene type word"],
    answers: Int[Tensor, "scene type"],
) -> dict[str, float]:
    """As :func:`accuracy`, of the tensors of the questions."""
    right = torch.zeros_like(answers, dtype=torch.bool)
    with torch.inference_mode():
        for start in range(0, len(answers), 50):
            part = slice(start, start + 50)
            indices, types = (answers[part] >= 0).nonzero(as_tuple=True)
            predicted = network(features[part][indices], words[part][indices, types]).logits.argmax(1)
            right[part][indices, types] = predicted == answers[part][indices, types]
    exists = answers >= 0
    by_type = {name: float(right[:, i].sum() / exists[:, i].sum().clamp_min(1)) for i, name in enumerate(TYPES)}
    return {"overall": float(right.sum() / exists.sum()), **by_type}


def question_only_accuracy(
    scenes: LanguageData, tests: LanguageData, known: Vocabulary, plan: Plan, steps: int = 1500
) -> dict[str, float]:
    """Return the accuracy of a network without the image: :class:`saywhy.tasks.vqa.networks.QuestionOnly`."""
    blind = learn_question_only(*scenes.questions(known), len(known), plan, steps)
    return accuracy(blind, torch.zeros(len(tests.question_texts), 1, 1, 1), tests, known)


def learn_question_only(
    words: Int[Tensor, "scene type word"], answers: Int[Tensor, "scene type"], size: int, plan: Plan, steps: int = 1500
) -> QuestionOnly:
    """Return a network trained without the image; ``size`` is that of the vocabulary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        blind = QuestionOnly(size, len(ANSWERS), embedded=64, hidden=128, dropout=0.2)
    nothing = torch.zeros(len(answers), 1, 1, 1)

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = sample_questions(answers, plan, step, share)
        output = model(nothing[taken][which], words[taken][which, types])
        return F.cross_entropy(output.logits, answers[taken][which, types])

    optimize(blind, loss, steps, plan, plan.settings())
    return blind


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: tuple[int, int],
    progress: Progress,
    devices: Devices = HERE,
) -> dict[str, str]:
    """Draw, train, evaluate and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    training, test = (
        draw_language_data(split, count, progress) for split, count in (("talk-train", scenes), ("talk-test", tests))
    )
    known = Vocabulary.of(text for of_scene in training.question_texts for _, text, _ in of_scene)
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    network = fresh(seed, known)
    depths = frozen_features(network.trunk, training.images)  # type: ignore[arg-type]
    bar, drawing = progress.add_task("training", total=sum(steps), loss=""), perf_counter() - begin
    trained = learn(
        network,
        depths,
        training,
        known,
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # evaluate the shipped precision, float16
    depths = frozen_features(network.trunk, test.images)  # type: ignore[arg-type]
    with torch.inference_mode():
        features = torch.cat([network.trunk.features(part.float()) for part in depths.split(100)])  # type: ignore
    reached = accuracy(network.head, features, test, known)
    without_image = question_only_accuracy(training, test, known, plan)
    metadata = {
        "model": "toybox:vqa",
        "words": "\n".join(known.words),
        "answers": ",".join(ANSWERS),
        "seed": str(seed),
        "steps": " + ".join(map(str, steps)),
        "scenes": str(scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "test_scenes": str(tests),
        "test_accuracy": json.dumps({name: round(value, 4) for name, value in reached.items()}),
        "test_accuracy_without_image": json.dumps({name: round(value, 4) for name, value in without_image.items()}),
    }
    save_weights(out, weights, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def main(
    out: command.WeightsFile,
    seed: command.Seed = 0,
    scenes: command.TrainingScenes = SCENES,
    tests: command.TestScenes = TEST_SCENES,
    trunk_steps: Annotated[int, typer.Option(min=0, help="Training steps of the visual trunk alone.")] = TRUNK_STEPS,
    answer_steps: Annotated[int, typer.Option(min=1, help="Training steps of trunk and answers.")] = ANSWER_STEPS,
    threads: command.Threads = 2,
    accelerator: command.Accelerator = "cpu",
    devices: command.DeviceCount = 1,
) -> None:
    """Train and evaluate the VQA model of Toybox. Ctrl-C stops it; the same command resumes."""
    on = Devices(accelerator, devices)
    command.run_recipe(
        lambda progress: train(out, seed, scenes, tests, (trunk_steps, answer_steps), progress, on),
        threads,
        hidden=("words",),
    )


if __name__ == "__main__":
    typer.run(main)
