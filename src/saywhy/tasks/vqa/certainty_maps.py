"""The four saliency maps of U-CAM: attention, evidence, certainty, and both."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from saywhy.errors import InputError, MethodError
from saywhy.explain import explain
from saywhy.explanation import Explanation, Metadata
from saywhy.methods import find_method
from saywhy.models import Model
from saywhy.targets import Certainty, Class, Top
from saywhy.validation import PositiveInt, validated

NO_EXPLAINER = "these maps have different targets. Check them one by one: explain(…, targets.Certainty())."


@validated()
def certainty_maps(
    model: Model, inputs: Any, answer: int | str | None = None, num_samples: PositiveInt = 100, **settings: Any
) -> Explanation:
    """Compute the four saliency maps of U-CAM (Patro et al., 2019) of one answer, by name.

    ``"attention"``
        the attention of the network, the mean over glimpses; only for networks with attention;
    ``"gradcam"``
        the evidence for the answer: Grad-CAM of its logit;
    ``"certainty-cam"``
        the certainty: Grad-CAM of :math:`-L_u`, the negative uncertainty loss;
    ``"ucam"``
        both: Grad-CAM of :math:`-(L_y + L_u)`.

    The losses are those of the network's own answer, so that the ground truth is not used, unless ``answer`` names it.
    The released code uses the ground truth, and counts :math:`L_u` twice.

    Args:
        model: a VQA model or a classifier with a variance head (:mod:`saywhy.uncertainty`).
        inputs: as for :func:`saywhy.explain`.
        answer: the answer by index or name; None is the network's own.
        num_samples: the number of noise samples of the loss.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation whose methods are these names, and whose single target is the answer; diagnostics are those of
        Grad-CAM.

    Raises:
        TargetError: the network has no variance head.
        InputError: ``answer`` is not a single one, or a target or a method is given.
    """
    if given := {"target", "method"} & settings.keys():
        raise InputError(f"certainty_maps has its own {' and '.join(sorted(given))}. Use saywhy.explain for others.")
    losses = [Certainty(answer, with_classification_loss=both, num_samples=num_samples) for both in (False, True)]
    target = Top(1) if answer is None else Class(answer)
    found = explain(model, inputs, [target, *losses], "gradcam", **settings)
    (pair,) = found.pairs
    maps = dict(zip(("gradcam", "certainty-cam", "ucam"), found.maps.split(1, 1), strict=True))
    others = {key: value for key, value in settings.items() if key not in find_method("gradcam").parameters}
    with suppress(MethodError):  # the network has no attention
        maps = {"attention": explain(model, inputs, target, "model-attention", **others).maps, **maps}
    number = {"attention": 0, "gradcam": 0, "certainty-cam": 1, "ucam": 2}
    metadata = Metadata(
        images=lambda: found.images,
        diagnostics=lambda: {
            (name, pair[1]): [row[number[name] : number[name] + 1] for row in found.diagnostics[pair]] for name in maps
        },
        provenance=lambda: found.provenance,
    )
    return replace(
        found,
        methods=tuple(maps),
        targets=[row[:1] for row in found.targets],
        classes=found.classes[:, :1],
        scores=found.scores[:, :1],
        probabilities=None if found.probabilities is None else found.probabilities[:, :1],
        values={(name, pair[1]): one for name, one in maps.items()},
        completeness_errors={},
        metadata=metadata,
        rerunner=None,
        unavailable=NO_EXPLAINER,
    )
