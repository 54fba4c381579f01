"""Measurements of a network with uncertainty estimates: answers, uncertainties, and attention."""

import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter, time
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.attention_network import VisualFeatures
from research.claims.uncertainty_networks import RUNS, TrainedNetwork
from saywhy.errors import SaywhyWarning
from saywhy.io.atomic import atomic_write
from saywhy.metrics.agreement import earth_movers_distance
from saywhy.metrics.calibration import calibration_error
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import centre_prior, on_grid
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import human_attention, questions
from saywhy.toybox.models.classifier import normalised
from saywhy.toybox.models.vision_language import ToyboxTrunk
from saywhy.toybox.recipes.language_data import draw_language_data
from saywhy.toybox.recipes.ucam import Questions, UncertaintyResults
from saywhy.uncertainty import Gate, fit_temperature
from saywhy.uncertainty.information import entropy
from saywhy.uncertainty.loss import losses

Each = Float[np.ndarray, " question"]
Uncertainties = dict[str, Each]


@dataclass
class Tests:
    """The questions of the test splits.

    Attributes:
        clear, blurred, unseen, chosen: of talk-test, ambiguous-test, unseen, and ambiguous-val (for the temperature).
        people: human attention maps of each question about the first clear scenes [question, person, 14, 14].
        attended: these questions, as (scene, type).
        images: the images of these scenes, normalised.
    """

    clear: Questions
    blurred: Questions
    unseen: Questions
    chosen: Questions
    people: Float[Tensor, "question person row column"]
    attended: Int[Tensor, "question 2"]
    images: Float[Tensor, "scene 3 height width"]


@dataclass
class Run:
    """The measurements of one network.

    Attributes:
        seconds: the seconds of its training.
        measuring: the seconds of measuring it.
        began: the start of the command that made it, drawing included (seconds since 1970).
        ended: the end of its measuring.
        uncertainty: uncertainties by name, of all clear and blurred questions.
        wrong: whether each of these was answered wrongly by a single pass.
        wrong_sampled: the same for the mean over MC samples.
        cosine: for each question of ``attended_scenes``, the cosine of the certainty gradient and the answer's gradient
            at the attention logits; empty for the base.
        scenes: the scene of each question, clear scenes counted from 0 and blurred ones from a million.
        unseen_scenes: the scene of each question about unseen kinds, counted from two millions.
        types: the type of each question.
        calibration: the expected calibration error, without and with temperature scaling.
        human_correlation: by map, its rank correlation with human attention for each question; also for the attention
            of another question, and for the centre prior.
        errors: for each question, -log of the right answer's probability in the mean over MC samples.
        distance: the earth mover's distance of attention from human attention.
        attended_scenes: the scene of each of these questions.
        by_split: uncertainties by kind, of clear, blurred and unseen questions.
    """

    seconds: float
    measuring: float
    began: float
    ended: float
    uncertainty: Uncertainties
    wrong: Bool[np.ndarray, " question"]
    wrong_sampled: Bool[np.ndarray, " question"]
    cosine: Each
    scenes: Int[np.ndarray, " question"]
    unseen_scenes: Int[np.ndarray, " unseen"]
    types: Int[np.ndarray, " question"]
    calibration: tuple[float, float]
    human_correlation: Uncertainties
    errors: Each
    distance: Each
    attended_scenes: Int[np.ndarray, " attended"]
    by_split: dict[str, dict[str, Each]]

    def keep(self, file: Path) -> None:
        """Store the measurements in a file."""
        nested = {f"{name}/{key}": value for name in NESTED for key, value in _flat(getattr(self, name)).items()}
        plain = {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__ if name not in NESTED}
        with atomic_write(file) as whole, whole.open("wb") as stream:
            np.savez(stream, **nested, **plain)

    @classmethod
    def version(cls) -> str:
        """Return what the names of stored files hold, so that files with other measurements are not read."""
        return sha256(" ".join(cls.__dataclass_fields__).encode()).hexdigest()[:4]

    @staticmethod
    def kept(file: Path) -> "Run":
        """Load the measurements from a file."""
        with np.load(file, allow_pickle=False) as stored:
            found: dict[str, Any] = {name: stored[name] for name in stored.files if "/" not in name}
            for name in NESTED:
                found[name] = {k.split("/", 1)[1]: stored[k] for k in stored.files if k.startswith(f"{name}/")}
        by_split: dict[str, dict[str, Each]] = {}
        for key, value in found["by_split"].items():
            kind, split = key.split("/")
            by_split.setdefault(kind, {})[split] = value
        first, second = found["calibration"].tolist()
        found |= {name: float(found[name]) for name in ("seconds", "measuring", "began", "ended")}
        return Run(**{**found, "by_split": by_split, "calibration": (first, second)})


NESTED = ("uncertainty", "human_correlation", "by_split")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Flatten nested dicts, with keys joined by a slash.

    >>> _flat({"a": {"b": 1}, "c": 2})
    {'a/b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = {f"{key}/{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        flat |= inner
    return flat


def draw_tests(
    trunk: ToyboxTrunk, visual: VisualFeatures, known: Vocabulary, count: int, attended: int, progress: Progress
) -> Tests:
    """Draw the test splits, and the human attention maps of the first scenes."""
    talks = {
        split: draw_language_data(split, count, progress)
        for split in ("talk-test", "ambiguous-test", "unseen", "ambiguous-val")
    }
    questions_by_split = {
        split: visual.replace_features(Questions(trunk, [talk], known)) for split, talk in talks.items()
    }
    clear = questions_by_split["talk-test"]
    places = (clear.answers[:attended] >= 0).nonzero()
    people = []
    for index in range(attended):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            people.append(on_grid(torch.from_numpy(human_attention(drawn, question)).unsqueeze(0))[0])
    images = normalised(talks["talk-test"].images[:attended].float() / 255)
    return Tests(
        clear,
        questions_by_split["ambiguous-test"],
        questions_by_split["unseen"],
        questions_by_split["ambiguous-val"],
        torch.stack(people),
        places,
        images,
    )


def measure_network(network: TrainedNetwork, visual: VisualFeatures, tests: Tests, began: float) -> Run:
    """Measure one network; ``began`` is the start of the command (seconds since 1970)."""
    begin = perf_counter()
    temperature = fit_temperature(*_logits(network, tests.chosen))
    splits = {name: getattr(tests, name) for name in ("clear", "blurred", "unseen")}
    sampled = {name: UncertaintyResults(network.head, of_one) for name, of_one in splits.items()}
    single = {name: UncertaintyResults(network.head, splits[name], 1) for name in ("clear", "blurred")}
    uncertainty = {
        "entropy": [one.found.total for one in single.values()],
        "tempered": _tempered(network, tests, temperature),
        "predictive": [sampled[name].found.total for name in single],
        "aleatoric": [sampled[name].found.aleatoric for name in single],
        "epistemic": [sampled[name].found.epistemic for name in single],
    }
    if network.run != "base":
        uncertainty["aleatoric_variance"] = [sampled[name].found.aleatoric_variance for name in single]
    right, right_sampled = (torch.cat([each[name].right for name in single]) for each in (single, sampled))
    scenes = [one.scenes + 10**6 * number for number, one in enumerate(single.values())]
    human_correlation, distance = _human_correlation(network, visual, tests)
    return Run(
        seconds=network.seconds,
        uncertainty={name: torch.cat(parts).numpy() for name, parts in uncertainty.items()},
        wrong=~right.numpy(),
        wrong_sampled=~right_sampled.numpy(),
        cosine=_gradient_cosines(network, tests),
        scenes=torch.cat(scenes).numpy(),
        unseen_scenes=sampled["unseen"].scenes.numpy() + 2 * 10**6,
        types=torch.cat([one.types for one in single.values()]).numpy(),
        calibration=(_calibration(network, tests, 1.0), _calibration(network, tests, temperature)),
        human_correlation=human_correlation,
        errors=torch.cat([_errors(sampled[name], splits[name]) for name in single]).numpy(),
        distance=distance,
        attended_scenes=tests.attended[:, 0].numpy(),
        by_split={
            kind: {name: getattr(one.found, kind).numpy() for name, one in sampled.items()}
            for kind in ("aleatoric", "epistemic", *(("aleatoric_variance",) if network.run != "base" else ()))
        },
        measuring=perf_counter() - begin,
        began=began,
        ended=time(),
    )


def _gradient_cosines(network: TrainedNetwork, tests: Tests) -> Each:
    """Return the cosine of the certainty gradient and the answer's gradient for each question, mean over glimpses."""
    how, found, logits = RUNS[network.run], [], []
    if how is None:
        return np.zeros(0)
    terms = {name: getattr(how, name) for name in ("num_samples", "udl", "gce", "ve", "prior_variance")}
    keep = network.head.attention_pooling.logits.register_forward_hook(lambda _, __, output: logits.append(output))
    with keep:
        for scenes, types in _parts(tests.attended):
            said = network.head(tests.clear.features[scenes].float(), tests.clear.words[scenes, types])
            shares, generator = tests.clear.shares[scenes, types], torch.Generator().manual_seed(0)
            loss = losses(said.logits, said.variance, shares, generator=generator, **terms)
            uncertain = how.certainty_loss(said.logits, loss)
            (both,) = Gate().benefits([logits.pop()], loss.answer.sum(), uncertain.sum())
            found.append(torch.cosine_similarity(*both, dim=-1).mean(1))
    return torch.cat(found).numpy()


def _logits(network: TrainedNetwork, questions: Questions) -> tuple[Tensor, Tensor]:
    """Return the logits of every question from one pass, and the right answers."""
    positions = (questions.answers >= 0).nonzero()
    with torch.inference_mode():
        parts = [
            network.head(questions.features[s].float(), questions.words[s, t]).logits for s, t in _parts(positions)
        ]
    return torch.cat(parts), questions.answers[positions[:, 0], positions[:, 1]]


def _errors(verdict_row: UncertaintyResults, questions: Questions) -> Tensor:
    truth = questions.answers[verdict_row.scenes, verdict_row.types]
    probabilities = verdict_row.found.probabilities.gather(1, truth.unsqueeze(1)).squeeze(1)
    return -probabilities.clamp_min(1e-12).log()


def _parts(positions: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [tuple(part.unbind(1)) for part in positions.split(200)]  # type: ignore[misc]


def _tempered(network: TrainedNetwork, tests: Tests, temperature: float) -> list[Tensor]:
    """Return the entropies of one pass, with a temperature fitted on other questions."""
    logits = (_logits(network, one)[0].double() / temperature for one in (tests.clear, tests.blurred))
    return [entropy(one.softmax(1)) for one in logits]


def _calibration(network: TrainedNetwork, tests: Tests, temperature: float) -> float:
    """Return the calibration error over clear and blurred questions."""
    pairs = [_logits(network, one) for one in (tests.clear, tests.blurred)]
    logits, right = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    probabilities, answers = (logits / temperature).softmax(1).max(1)
    return calibration_error(probabilities, answers == right)


def _human_correlation(network: TrainedNetwork, visual: VisualFeatures, tests: Tests) -> tuple[Uncertainties, Each]:
    """Return the agreement of attention and maps with human attention, and the distance from the first person's."""
    from saywhy.targets import Certainty, Top

    model, found = network.model(visual), []
    attention, elsewhere = [], []
    targets = [Top(1)] if network.run == "base" else [Top(1), Certainty(), Certainty(with_classification_loss=True)]
    for scenes, types in _parts(tests.attended):
        words = tests.clear.words[scenes, types]
        with warnings.catch_warnings(action="ignore", category=SaywhyWarning):  # maps of zeros count as 0
            made = saywhy.explain(
                model, {"image": tests.images[scenes], "question": words}, targets, "gradcam", "trunk.backbone.features"
            )
        found.append(made.maps)
        with torch.inference_mode():
            features = tests.clear.features[scenes].float()
            attention.append(network.head(features, words).attention.mean(1))
            other = network.head(features, words.roll(1, 0))
            elsewhere.append(other.attention.mean(1))
    maps, attended = torch.cat(found), on_grid(torch.cat(attention))
    names = ("gradcam", "certainty-cam", "ucam")[: maps.shape[1]]
    agreeing = {name: _agreement(on_grid(maps[:, number]), tests.people) for number, name in enumerate(names)}
    distance = earth_movers_distance(attended, tests.people[:, 0])
    controls = {
        "other question": _agreement(on_grid(torch.cat(elsewhere)), tests.people),
        "centre": _agreement(centre_prior((14, 14)).expand(len(attended), -1, -1), tests.people),
    }
    return {"attention": _agreement(attended, tests.people), **agreeing, **controls}, distance.numpy()


def _agreement(maps: Tensor, people: Tensor) -> Each:
    """Return the rank correlation with human attention, averaged over people, for each question."""
    each = [rank_correlation(maps.flatten(1), one.flatten(1)) for one in people.unbind(1)]
    return torch.stack(each).mean(0).numpy()
