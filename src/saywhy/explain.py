"""``explain``, ``capture`` and ``layers``: from inputs, model, methods, targets and layers to an explanation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from saywhy.engine.capture import Capture
from saywhy.engine.exclusive import exclusive
from saywhy.engine.layers import find_layers
from saywhy.engine.layout import Layout
from saywhy.engine.memory import refused_if_out_of_memory
from saywhy.engine.precision import Precision
from saywhy.engine.trace import Candidate
from saywhy.errors import GradientError, InputError, LayoutError, MethodError
from saywhy.explainer.agreement import precision_agreement
from saywhy.explainer.alternatives import with_alternatives
from saywhy.explainer.batch_result import BatchResult
from saywhy.explainer.config import ExplainConfig, LayerSpec, resolve_methods
from saywhy.explainer.layers import layer_search
from saywhy.explainer.metadata import MapMetadata
from saywhy.explainer.prepare import prepare
from saywhy.explainer.rerun import Rerunner
from saywhy.explainer.runner import Runner
from saywhy.explainer.samples import run_independent
from saywhy.explanation import Explanation, Metadata
from saywhy.methods.fusion import Fusion
from saywhy.models import Input, Model
from saywhy.models.inputs import Batch, translated
from saywhy.output import ScoreKind
from saywhy.targets import as_target
from saywhy.validation import validate


def explain(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    layer: LayerSpec = None,
    *,
    score: ScoreKind | None = None,
    fuse: Fusion | None = None,
    layout: Layout | None = None,
    output: str | int | None = None,
    axes: str | Input | None = None,
    precision: Precision = "exact",
    batch_size: int | None = None,
    create_graph: bool = False,
    seed: int = 0,
    keep_model: bool = True,
    **parameters: Any,
) -> Explanation:
    """Compute saliency maps that explain why the model gave its output.

    One pass suffices for any number of targets, methods and layers (methods of several passes run their own).

    Args:
        model: a model from :func:`saywhy.load`, a name for it, or any ``nn.Module``. Its mode, hooks, gradients,
            buffers and the random state are restored afterwards, also after an interrupt (Ctrl-C). Threads that explain
            with one model, or with models that share layers, take turns.
        inputs: a path, PIL image or numpy array, or a list of them (the model must know its preprocessing); a
            preprocessed tensor [3, height, width] or [batch, 3, height, width]; a tuple of positional or a dict of
            keyword arguments for networks of several inputs.
        target: None is the model's own top class, sample by sample; an index or a label is one class; a list several
            targets for every sample; an integer tensor [batch] or [batch, target] sets targets for each sample; an
            object of :mod:`saywhy.targets` (``from saywhy.targets import Class``, ``Class("cat") - Class("dog")``);
            a function of the output that gives one number a sample.
        method: one name or several of ``saywhy.methods.METHODS``.
        layer: None finds the deepest layer that is proved to be a map of the image and has a gradient of the target.
            Where branches of the network carry the score, it is the last layer before them, or the sum of the maps of
            all branches (``"a + b"`` in ``layers``). A dotted name (``"layer4#0"`` for the first call of a layer that
            runs several times, ``"relu(conv3)"`` for the activation function that the network calls after a module), a
            module, or a list takes these layers.
        score: what a class's score is: ``"logit"`` (before the softmax, as the Grad-CAM paper says),
            ``"probability"``, ``"log-probability"`` or ``"log-odds"``; None is the one of each method's paper.
        fuse: ``"mean"``, ``"max"``, ``"product"`` or ``"refine"`` makes one map of several layers.
        layout: how to read the layer's output as maps, where the layout cannot be proved.
        output: where the class scores are in what the model returns (``"logits"``, ``0``, ``"aux.logits"``).
        axes: the axes of a tensor, in the order in which the network takes it: ``"b t c h w"`` for frames
            [batch, time, channel, height, width], ``"b l"`` for waveforms, ``"tile c h w"`` for one bag of tiles; maps
            lie over all axes but batch and channel. A :class:`saywhy.Input` also says which arguments belong to all
            samples. None finds both, or refuses where they cannot be found.
        precision: ``"exact"`` runs the model as it is; ``"fast"`` a copy in the form that the machine runs fastest,
            with the agreement of the maps measured and reported in the diagnostics.
        batch_size: how many samples (or altered images of one sample) run at once; None is as many samples as fit into
            a memory budget (half a gigabyte of activations on the CPU), and 16 altered images. It changes the result
            by rounding only.
        create_graph: keep the graph, so that a loss may contain the maps; the model's mode is then left as it is.
        seed: seeds everything random inside the model or a method (masks, noise).
        keep_model: keep the model and the inputs (``explanation.explainer``), for ``counterfactual``,
            :func:`saywhy.check` and metrics that run the model again. False keeps only the result, which saves memory
            in long loops.
        parameters: of the methods (``relu=False``, ``pooling="max"``); each goes to the methods that have it.

    Returns:
        An :class:`~saywhy.explanation.Explanation`.

    Raises:
        SaywhyError: one of its subclasses; the message says what was expected, what was given and what to do.

    >>> _ = torch.manual_seed(0)
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    >>> network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> e = explain(network, torch.rand(5, 3, 8, 8), target=[0, 1], relu=False)
    >>> e.maps.shape, e.layers
    (torch.Size([5, 2, 8, 8]), ('0',))
    """
    methods, settings = resolve_methods(method, parameters)
    config = ExplainConfig(
        target=as_target(target),
        methods=methods,
        layer=layer,
        layout=layout,
        score=score,
        output=output,
        precision=precision,
        batch_size=batch_size,
        create_graph=create_graph,
        seed=seed,
        parameters=settings,
    )
    fuse = validate("fuse", fuse, Fusion | None, MethodError)
    keep_model = validate("keep_model", keep_model, bool)
    if fuse is not None and all(m.at == "input" for m in methods):
        raise InputError(
            f"fuse needs methods at a layer, but {methods[0].name} is of the image itself. Leave out fuse."
        )
    runner, batch = prepare(model, inputs, config, axes)
    with exclusive(runner.model.module), refused_if_out_of_memory():
        explanation = _explanation(runner, batch, batch_size, warn=True)
    explanation = explanation.fuse(fuse) if fuse is not None else explanation
    return explanation if keep_model else explanation.without_explainer()


def capture(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    layer: LayerSpec = None,
    *,
    score: ScoreKind | None = None,
    layout: Layout | None = None,
    output: str | int | None = None,
    axes: str | Input | None = None,
    create_graph: bool = False,
) -> Capture:
    """Run the model once and return activations and gradients, for your own methods; arguments as for :func:`explain`.

    >>> _ = torch.manual_seed(0)
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    >>> network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> c = capture(network, torch.rand(1, 3, 8, 8), target=[0, 1])
    >>> c.activations["0"].shape, c.gradients()["0"].shape
    (torch.Size([1, 4, 8, 8]), torch.Size([1, 2, 4, 8, 8]))
    """
    config = ExplainConfig(
        as_target(target), layer=layer, layout=layout, score=score, output=output, create_graph=create_graph
    )
    runner, batch = prepare(model, inputs, config, axes)
    with exclusive(runner.model.module), refused_if_out_of_memory():
        return runner.capture(batch)[0]


def layers(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    *,
    output: str | int | None = None,
    axes: str | Input | None = None,
) -> list[Candidate]:
    """List every layer of the model that may be a map of the image, in running order, with its proof.

    Args:
        model, inputs, target, output, axes: as for :func:`explain`. The share of positions with a gradient is that of
            this target, for the first sample; models without class scores (detectors, segmenters) need a function.

    Returns:
        A :class:`~saywhy.engine.trace.Candidate` for every layer.

    Raises:
        SaywhyError: the model does not take the inputs, or has no such target.

    >>> _ = torch.manual_seed(0)
    >>> segmenter = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    >>> [(c.name, c.role) for c in layers(segmenter, torch.rand(1, 3, 8, 8), lambda out: out[:, 1].mean((1, 2)))]
    [('0', 'features'), ('1', 'features'), ('2', 'scores')]
    """
    runner, batch = prepare(model, inputs, ExplainConfig(as_target(target), output=output), axes)
    with exclusive(runner.model.module), refused_if_out_of_memory(), translated(runner.model, batch):
        return find_layers(layer_search(runner.model, runner.config, batch))


def _explanation(runner: Runner, batch: Batch, size: int | None, *, warn: bool) -> Explanation:
    """Run a request on a batch, at most ``size`` samples at once, and collect the results."""
    version = runner.model.version()
    try:
        results = run_independent(runner, batch, size)
    except (GradientError, LayoutError) as error:
        raise with_alternatives(error, runner, batch) from error
    collected = MapMetadata.of(runner, results, precision_agreement(runner, batch, results[0]))
    targets = [row for result in results for row in result.target_scores.names]
    if warn:
        collected.warn_of_zero_maps(targets, stacklevel=4)
        collected.warn_of_bypassed_layers(stacklevel=4)
        collected.warn_of_several_images(stacklevel=4)
        if runner.model.domain is not None:
            collected.warn_of_other_images(batch.images(), stacklevel=4)
    at_once = -(-batch.size // len(results))

    def rerun(runner: Runner, batch: Batch, *, warn: bool = False) -> Explanation:
        with exclusive(runner.model.module), refused_if_out_of_memory():
            return _explanation(runner, batch, at_once, warn=warn)

    pairs = tuple(collected.maps)
    resolved = _with_layers_of(runner, results)
    return Explanation(
        methods=tuple(m.name for m in runner.config.methods),
        layers=tuple(dict.fromkeys(layer for _, layer in pairs)),
        targets=targets,
        classes=torch.cat([result.target_scores.classes for result in results]),
        scores=collected.scores,
        score=results[0].score,
        probabilities=collected.probabilities,
        input_size=batch.space,
        values=collected.maps,
        completeness_errors={
            key: attribution.completeness_error
            for key, attribution in collected.attributions.items()
            if attribution.completeness_error is not None
        },
        metadata=Metadata(
            images=batch.images,
            diagnostics=lambda: {pair: collected.diagnostics(*pair, batch.images()) for pair in pairs},
            provenance=lambda: collected.provenance(batch, targets, version),
        ),
        rerunner=Rerunner(resolved, batch, rerun, version),
    )


def _with_layers_of(runner: Runner, results: Sequence[BatchResult]) -> Runner:
    """The request with the layers at which all batches were explained.

    They are found again if they differ, and proved again, by their names, if their layout is of one sample only.
    """
    first = results[0].layers
    if not all([c.name for c in r.layers] == [c.name for c in first] for r in results):
        return replace(runner, resolved_layers=())
    if any(c.of_one_sample for c in first):
        return replace(runner.with_config(layer=[c.name for c in first]), resolved_layers=())
    return replace(runner, resolved_layers=first)
