"""What counts are good for: a detector's operating point, and answers to "how many?", with intervals.

Both follow :mod:`saywhy.tasks.counting.detection_counts` and :mod:`saywhy.tasks.counting.count_questions`, but keep
what each image contributes, for the bootstrap.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open

import saywhy
from research.claims.counting_data import PreparedSet, read_prepared
from research.claims.counting_measures import CountStatistic, error_statistics, f_statistic
from research.claims.counting_runs import COUNTERS, ENSEMBLE, RunResult, ensemble, read_run
from research.claims.language_networks import FOLDER
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.io.atomic import write_text
from saywhy.targets import Top
from saywhy.tasks.counting.count_questions import COUNTED, CountQuestion, answer_question, number_of, route_question
from saywhy.tasks.counting.detect import Detections
from saywhy.tasks.counting.detection_counts import TrueBoxes, keep_by_count, keep_by_score, suppressed, tune_by_f
from saywhy.tasks.counting.found_objects import match_boxes
from saywhy.toybox.language.count_questions import toybox_count_questions
from saywhy.toybox.scenes.scene import scene
from saywhy.training.checkpoint import save_weights

SPLIT = "talk-test"

ONE_THRESHOLD = "one threshold a class"
"""The name of the operating point without counts."""

TRUE_COUNTS = "true counts"

Tallies = Float[np.ndarray, "network image class 3"]
"""The numbers of right boxes, of boxes and of objects."""


def tally(
    found: Sequence[Detections], truth: Sequence[TrueBoxes], classes: int, iou: float = 0.5
) -> Float[np.ndarray, "image class 3"]:
    """Count right boxes, boxes and objects of every image and class.

    A box belongs to the object of its class with the largest IoU. It is right if that is at least ``iou`` and no right
    box of larger score belongs to the same object (:func:`saywhy.tasks.counting.detection_counts.detection_score`).

    >>> found = Detections(torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]), torch.ones(2), torch.tensor([0, 0]))
    >>> tally([found], [TrueBoxes(((0, 0, 10, 10), (20, 20, 30, 30)), (0, 0))], 1).tolist()
    [[[1.0, 2.0, 2.0]]]
    """
    counts = np.zeros((len(found), classes, 3))
    for own, boxes, objects in zip(counts, found, truth, strict=True):
        assigned = match_boxes(boxes, objects.boxes, objects.labels, iou).assigned
        taken = set()
        for place in sorted(range(len(assigned)), key=lambda n: (-float(boxes.scores[n]), n)):
            label = int(boxes.labels[place])
            own[label, 1] += 1
            if assigned[place] >= 0 and assigned[place] not in taken:
                taken.add(assigned[place])
                own[label, 0] += 1
        for label in objects.labels:
            own[label, 2] += 1
    return counts


def operating_points(
    detector: RunResult, counters: Mapping[str, RunResult], data: PreparedSet
) -> dict[str, Float[np.ndarray, "image class 3"]]:
    """Return the tallies of the test images with one threshold a class, with predicted and with true counts.

    The threshold of a class is that of the largest F on validation images, of each fold its own.
    """
    classes, truth = len(data.labels), data.truth
    boxes = {image: suppressed(found) for image, found in detector.found.items()}
    by_score = {}
    for fold in detector.folds:
        thresholds = tune_by_f([boxes[i] for i in fold.val], [truth[i] for i in fold.val], classes)
        by_score |= {image: keep_by_score(boxes[image], thresholds) for image in fold.test}
    test, own = [boxes[i] for i in detector.images], [truth[i] for i in detector.images]
    kept = {ONE_THRESHOLD: [by_score[image] for image in detector.images]}
    for name, result in counters.items():
        rows = torch.from_numpy(result.counts)
        kept[counts_of(name)] = [keep_by_count(one, row) for one, row in zip(test, rows, strict=True)]
    kept[TRUE_COUNTS] = [keep_by_count(one, objects.counts(classes)) for one, objects in zip(test, own, strict=True)]
    return {name: tally(some, own, classes) for name, some in kept.items()}


def detection_use(name: str, data: Path, detector: Path, counters: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read the runs of one seed, and return the tallies of all operating points, which are stored: a job."""
    hashed = sha256(json.dumps([str(detector.name), *(one.name for one in counters.values())]).encode()).hexdigest()
    file = FOLDER / f"counting-{name}-tallies-{hashed[:12]}.safetensors"
    if not file.exists():
        save_weights(
            file, {point: torch.from_numpy(rows) for point, rows in _points(name, data, detector, counters)}, {}
        )
    with safe_open(file, "np") as opened:
        return {point: opened.get_tensor(point) for point in POINTS}


def _points(name: str, data: Path, detector: Path, counters: Mapping[str, Path]) -> Iterable[tuple[str, np.ndarray]]:
    known = {kind: read_run(file) for kind, file in counters.items()}
    known[ENSEMBLE] = ensemble(list(known.values()))
    return operating_points(read_run(detector), known, read_prepared(name, data)).items()


def counts_of(kind: str) -> str:
    """Return the name of the operating point of a counter's counts.

    >>> counts_of("glance")
    'counts of glance'
    """
    return f"counts of {kind}"


POINTS = (ONE_THRESHOLD, *(counts_of(kind) for kind in (*COUNTERS, ENSEMBLE)), TRUE_COUNTS)
"""The operating points that are compared."""


def f_statistics(tallies: Sequence[Mapping[str, np.ndarray]]) -> dict[str, CountStatistic]:
    """Return the mean F over classes of every operating point, over the networks."""
    return {name: f_statistic(np.stack([of_seed[name] for of_seed in tallies])) for name in tallies[0]}


@dataclass(frozen=True)
class Asked:
    """The questions "how many?" about the test scenes, and the answers of a VQA network.

    Attributes:
        questions: about the scenes, by their indices.
        answers: of the VQA network, in their order.
    """

    questions: list[CountQuestion]
    answers: list[str]

    def buckets(self, labels: Sequence[str]) -> dict[str, int]:
        """Return the number of questions of every bucket."""
        found: dict[str, int] = {}
        for question in self.questions:
            bucket = route_question(question.text, labels).bucket
            found[bucket] = found.get(bucket, 0) + 1
        return found

    def compared(self, labels: Sequence[str]) -> list[int]:
        """Return the places of the questions that a counter answers and the VQA network gave a number for."""
        return [
            place
            for place, (question, said) in enumerate(zip(self.questions, self.answers, strict=True))
            if route_question(question.text, labels).bucket in COUNTED and number_of(said) is not None
        ]


def ask_toybox(scenes: int) -> Asked:
    """Ask ``toybox:vqa`` the questions about the first test scenes; its answers are stored."""
    questions = toybox_count_questions(SPLIT, scenes)
    vqa = saywhy.load("toybox:vqa")
    file = FOLDER / f"counting-answers-{scenes}-{vqa.digest()[:12]}.json"
    if file.exists():
        return Asked(questions, json.loads(file.read_text()))
    answers = []
    for question in questions:
        image = scene(SPLIT, int(str(question.image))).image
        runner, batch = prepare(vqa, vqa.prepare_inputs(image, question.text), ExplainConfig(Top(1)))
        output = runner.predict(batch)
        answers.append(output.label(int(output.logits[0].argmax())))
    write_text(file, json.dumps(answers))
    return Asked(questions, answers)


def question_statistics(
    asked: Asked, counts: Mapping[str, Float[np.ndarray, "network image class"]], labels: Sequence[str]
) -> dict[str, tuple[CountStatistic, float]]:
    """Compute the root mean square error and the share of exact answers on the questions that both answer.

    Args:
        asked: the questions and the VQA network's answers.
        counts: by counter, of every network, of the test scenes in the order of their indices.
        labels: the classes.

    Returns:
        By counter, and under "toybox:vqa".
    """
    places = asked.compared(labels)
    chosen = [asked.questions[place] for place in places]
    true = np.array([[float(question.answer)] for question in chosen])
    said = np.array([[[float(number_of(asked.answers[place]) or 0)] for place in places]])
    found = {"toybox:vqa": said}
    for name, rows in counts.items():
        found[name] = np.array([
            [[float(answer_question(route_question(q.text, labels), torch.from_numpy(row[int(str(q.image))]), labels))]
             for q in chosen]
            for row in rows
        ])  # fmt: skip
    return {name: (error_statistics(own, true)["mRMSE"], float((own == true).mean())) for name, own in found.items()}
