"""What the studio computes: each task of a model, as data for the viewer, method by method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

import saywhy
from saywhy.checks import checked
from saywhy.errors import InputError
from saywhy.explanation import Metadata
from saywhy.methods.registry import find_method
from saywhy.models import Model
from saywhy.studio.jobs import Job
from saywhy.targets import Top
from saywhy.targets.expression import parse_target
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.protocols import GeneratesText
from saywhy.tasks.questioning.networks import QuestionGenerator
from saywhy.view.payload import Payload, payload

Verb = Literal["explain", "ask", "caption", "count", "questions"]

MOST = 5
"""Targets, and methods, of one request."""


def tasks_of(model: Model) -> tuple[Verb, ...]:
    """Return the tasks that a model can do."""
    if isinstance(model.module, QuestionGenerator):
        return ("questions",)
    if isinstance(model.module, GeneratesText):
        return ("caption",)
    if isinstance(model.module, Counter):
        return ("count",)
    return ("ask",) if model.texts else ("explain",)


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        task: what to do.
        model: its name in the studio.
        target: classes, contrasts and others, as on the command line; () for the model's own top ones.
        method: names of methods; () for the task's default.
        question: for "ask".
        text: for "caption": the caption to explain; "" generates one.
        of: for "count": nouns; () for the largest counts.
        prompt: for "questions": the words that every question begins with.
        answer: for "questions": the name of the VQA model that answers them; "" for none.
        layer: a layer's name; "" finds one.
        counterfactual: explain the evidence against the targets.
        check: test every map.
        top: the number of the model's own classes.
    """

    task: Verb
    model: str
    target: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    question: str = ""
    text: str = ""
    of: tuple[str, ...] = ()
    prompt: str = ""
    answer: str = ""
    layer: str = ""
    counterfactual: bool = False
    check: bool = False
    top: int = 3


def sentence(asked: Ask) -> str:
    """Return what was asked, in a sentence.

    >>> sentence(Ask("explain", "resnet", ("dog - cat",), ("gradcam",)))
    'resnet was asked to explain dog - cat by gradcam.'
    >>> sentence(Ask("ask", "blip", question="what is it?"))
    'blip was asked: what is it?'
    """
    if asked.task == "ask":
        return f"{asked.model} was asked: {asked.question}"
    if asked.task == "questions":
        begin = f" that begin with '{asked.prompt}'" if asked.prompt else ""
        return f"{asked.model} was asked for questions{begin}{f', {asked.answer} to answer them' * bool(asked.answer)}."
    what = ", ".join(asked.of if asked.task == "count" else asked.target) or asked.text
    against = "the evidence against " if asked.counterfactual else ""
    methods = f" by {', '.join(asked.method)}" if asked.method else ""
    return f"{asked.model} was asked to {asked.task} {against}{what or 'what it finds'}{methods}."


def job_of(model: Model, image: Image.Image, name: str, asked: Ask, visitor: str, answerer: Model | None = None) -> Job:
    """Return the job of a request: it gives a part for each group of methods. ``answerer`` answers questions.

    Raises:
        InputError: the model does not do this task, or there are too many targets or methods.
    """
    if asked.task not in tasks_of(model):
        raise InputError(f"{asked.model} cannot {asked.task}; it can {', '.join(tasks_of(model))}.")
    for what, given in (("targets", asked.target), ("methods", asked.method), ("nouns", asked.of)):
        if len(given) > MOST:
            raise InputError(f"a request has at most {MOST} {what}, got {len(given)}.")
    if not 1 <= asked.top <= MOST:
        raise InputError(f"top must be from 1 to {MOST}, got {asked.top}.")
    if asked.task == "ask" and not asked.question.strip():
        raise InputError("ask needs a question.")
    targets = [parse_target(text, model.labels) for text in asked.target]
    image = image.copy()
    image.filename = name  # type: ignore[attr-defined]
    groups = list(_groups(asked.method)) or [()]

    def work(job: Job) -> None:
        for group in groups:
            job.report(f"{asked.task}: {', '.join(group)}" if group else asked.task, 0, 1)
            job.give(_result(model, image, asked, targets, list(group), answerer))

    def batch(images: Sequence[Image.Image]) -> list[Any]:
        found = _result(model, list(images), asked, targets, list(groups[0]))
        # Without the inputs of all, which a sample would keep alive.
        return [found.sample(number).without_explainer() for number in range(len(images))]

    at_once = asked.task == "explain" and not asked.check and len(groups) == 1 and _share_a_pass(groups[0])
    batches = batch if at_once else None
    return Job(work, visitor, name, sentence(asked), image=image, batch=batches, key=repr(asked))


def _share_a_pass(methods: Sequence[str]) -> bool:
    return all(find_method(name).passes == "one" for name in methods)


def _groups(methods: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the methods that share one pass together, then each of the others."""
    shared = tuple(name for name in methods if _share_a_pass([name]))
    if shared:
        yield shared
    yield from ((name,) for name in methods if name not in shared)


def _result(
    model: Model, image: Any, asked: Ask, targets: Sequence[Any], methods: list[str], answerer: Model | None = None
) -> Any:
    """Return the explanation of a group of methods, of one image or of several, or the result of a task."""
    given: dict[str, Any] = {"layer": asked.layer or None}
    if asked.task == "ask":
        return saywhy.ask(model, image, asked.question, targets or None, methods or None, top=asked.top, **given)
    if asked.task == "caption":
        return saywhy.caption(model, image, asked.text or None, methods or None, **given)
    if asked.task == "questions":
        given |= {"prompt": asked.prompt or None, "answer": answerer}
        return saywhy.questions(model, image, method=methods or "gradcam", **given)
    if asked.task == "count":
        return saywhy.count(model, image, list(asked.of) or None, methods or "gradcam", **given)
    found = saywhy.explain(model, image, targets or Top(asked.top), methods or "gradcam", **given)
    found = found.counterfactual if asked.counterfactual else found
    return checked(found) if asked.check else found


def joined(parts: Sequence[Any], title: str) -> Payload:
    """Return the data of the viewer for the parts of one result: one image with the maps of all of them."""
    data = [payload(part, title) for part in parts]
    first = data[0]
    for other in data[1:]:
        first["images"][0]["maps"] += other["images"][0]["maps"]
        first["images"][0]["distances"] += other["images"][0]["distances"]
    if len(data) > 1:
        first["provenance"] = {"explanations": [one["provenance"] for one in data]}
    return first


def merged(parts: Sequence[Any]) -> Any:
    """Return one result of several: an explanation with the maps of all methods; the first one of other results."""
    explanations = [part for part in parts if isinstance(part, saywhy.Explanation)]
    if len(explanations) < 2:
        return parts[0]
    first = explanations[0]
    return replace(
        first.with_maps({pair: maps for one in explanations for pair, maps in one.values.items()}),
        completeness_errors={pair: values for one in explanations for pair, values in one.completeness_errors.items()},
        metadata=Metadata(
            first.images,
            {pair: rows for one in explanations for pair, rows in one.diagnostics.items()},
            {
                **first.provenance,
                "methods": {k: v for one in explanations for k, v in one.provenance["methods"].items()},
            },
        ),
        rerunner=None,
    )
