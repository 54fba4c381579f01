"""What every word of a question does to the map of its answer, and what makes the answer certain."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import torch

from saywhy.diagnostics import Diagnostics
from saywhy.errors import InputError, MethodError, SaywhyWarning
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.methods import find_method
from saywhy.models import Model
from saywhy.targets import Certainty, Class, Top, as_target
from saywhy.tasks.vocabulary import words_of


def word_ablation(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    **settings: Any,
) -> Explanation:
    """For every word of a question, what it adds to the map of the answer: that map, less the one without the word.

    The question is asked again without each of its words, all in one pass; the answer that is explained is always the
    same. A word that the network does not need has a map of next to nothing, and what a word brings in ("red" in "is
    there a red mug?") is where its map is positive. This is occlusion of the question, read off the image: a choice
    of ours, for which there is no paper.

    Args:
        model: of images and questions, which has its vocabulary (``model.texts``).
        inputs: one image and one question of at least two words, as for :func:`saywhy.explain`.
        target: one target; None is the network's own answer to the whole question.
        method: one name or several.
        settings: as for :func:`saywhy.explain`; ``relu=False`` unless they say otherwise.

    Returns:
        An explanation of one sample whose targets are the words; scores are by how much the answer's score falls
        without each of them.

    Raises:
        InputError: there is no question that the model could take, it has fewer than two words, or the target is
            another answer where a word is left out.
    """
    spoken = [name for name in inputs if name in model.texts]
    if len(spoken) != 1 or not isinstance(inputs[spoken[0]], str):
        raise InputError(
            "word_ablation takes one image and one question, as a model such as 'toybox:vqa' does; got "
            f"{', '.join(inputs)} (words are {', '.join(model.texts) or 'none'})."
        )
    (name,) = spoken
    words = words_of(inputs[name])
    if len(words) < 2:
        raise InputError(f"what a word adds is seen by leaving it out; {inputs[name]!r} has fewer than two words.")
    methods = [find_method(name) for name in ([method] if isinstance(method, str) else method)]
    if any("relu" in m.parameters for m in methods):
        settings = {"relu": False, **settings}
    whole = explain(model, inputs, target, method, **settings)
    if len(whole.targets[0]) != 1:
        raise InputError(f"one target at a time: {len(whole.targets[0])} were given.")
    index = int(whole.classes)
    if index >= 0:  # the top answer of the whole question stays the answer
        target = Class(index, getattr(as_target(target), "score", None))
    less = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    with warnings.catch_warnings():
        # Without a word that counts, the answer need not look at the image at all.
        warnings.simplefilter("ignore", SaywhyWarning)
        found = explain(model, {**inputs, name: less}, target, method, **settings)
    if moved := {row[0] for row in found.targets} - {whole.targets[0][0]}:
        raise InputError(
            f"word_ablation explains one answer whatever is left out, and this target is {whole.targets[0][0]!r} of "
            f"the whole question but {moved.pop()!r} of a part of it. Name the answers."
        )
    return whole._with(
        targets=[words],
        words=tuple(range(len(words))),
        classes=torch.full((1, len(words)), -1),
        scores=(whole.scores - found.scores).mT,
        probabilities=None,
        _maps={pair: (whole[pair] - found[pair]).transpose(0, 1) for pair in whole.pairs},
        _completeness_errors={},
        _again=_differences,
        # What a card says of the evidence is said of the whole question's map, and of no difference.
        _diagnostics=lambda m, layer: [[_without(whole.cards[m, layer][0][0], "evidence")] * len(words)],
    )


def certainty_maps(
    model: Model, inputs: Any, answer: int | str | None = None, num_samples: int = 100, **settings: Any
) -> Explanation:
    """The four maps of U-CAM (Patro et al., 2019) of one answer, by name.

    ``"attention"``
        where the network looked, the mean over its glimpses; only of networks that say so;
    ``"gradcam"``
        the evidence for the answer, by its logit;
    ``"certainty-cam"``
        what makes it certain: Grad-CAM of :math:`-L_u`, the uncertainty loss with a minus before it;
    ``"ucam"``
        both: Grad-CAM of :math:`-(L_y + L_u)`.

    Losses are those of the network's own answer, so that the true one is never looked at, unless ``answer`` names it.
    The released program takes the true one, and counts :math:`L_u` twice.

    Args:
        model: with a variance head (:mod:`saywhy.uncertainty`): of images and questions, or a classifier.
        inputs: as for :func:`saywhy.explain`.
        answer: by index or name; None is the network's own.
        num_samples: of noise.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation whose methods are these names, and whose one target is the answer; cards are those of Grad-CAM.

    Raises:
        TargetError: the network does not say how much noise it expects.
        InputError: answer is no single one, or a target or a method is given.
    """
    if answer is not None and (isinstance(answer, bool) or not isinstance(answer, int | str)):
        raise InputError(f"answer is one answer by index or name, got {type(answer).__name__}.")
    if given := {"target", "method"} & settings.keys():
        raise InputError(
            f"these four maps have their own {' and '.join(sorted(given))}; use saywhy.explain for others."
        )
    losses = [Certainty(answer, answered=both, num_samples=num_samples) for both in (False, True)]
    target = Top(1) if answer is None else Class(answer)
    found = explain(model, inputs, [target, *losses], "gradcam", **settings)
    (pair,) = found.pairs
    maps = dict(zip(("gradcam", "certainty-cam", "ucam"), found.maps.split(1, 1), strict=True))
    others = {key: value for key, value in settings.items() if key not in find_method("gradcam").parameters}
    with suppress(MethodError):  # it looks nowhere in particular
        maps = {"attention": explain(model, inputs, target, "model-attention", **others).maps, **maps}
    number = {"attention": 0, "gradcam": 0, "certainty-cam": 1, "ucam": 2}
    return found._with(
        methods=tuple(maps),
        targets=[row[:1] for row in found.targets],
        classes=found.classes[:, :1],
        scores=found.scores[:, :1],
        probabilities=None if found.probabilities is None else found.probabilities[:, :1],
        _maps={(name, pair[1]): one for name, one in maps.items()},
        _completeness_errors={},
        _again=_named,
        _diagnostics=lambda name, layer: [row[number[name] : number[name] + 1] for row in found.cards[pair]],
    )


def _named() -> NoReturn:
    raise InputError("these maps are those of several targets. Check them one by one: targets.Certainty of explain.")


def _differences() -> NoReturn:
    raise InputError("the map of a word is the difference of two explanations. Check those: explain each question.")


def _without(card: Diagnostics, name: str) -> Diagnostics:
    return tuple(fact for fact in card if fact.name != name)
