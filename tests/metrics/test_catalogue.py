"""What every metric of the registry promises: its range, its direction, its parameters and what it looks at.

A new metric is tested by being registered; its oracle has to be there. If the usual better and worse maps are not so
for it, its own are named in ``both``.
"""

import doctest
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import saywhy
from oracles import METRIC_ORACLES
from oracles.networks import TinyNetwork
from saywhy import metrics
from saywhy.errors import MetricError
from saywhy.methods import METHODS, Method
from saywhy.metrics import METRICS, Metric, all_dataset_metrics, find_metric, measure, register
from saywhy.metrics.measure import EvaluationContext
from saywhy.tasks.registry import import_metrics

ARGUMENTS = {"maps": 1, "masks": 2, "boxes": 2, "network": 2, "probes": 2, "method": 3}
"""How many arguments a metric takes that are no parameters."""

SIDE = 8


class Halves(nn.Module):
    """The left half of a chequered image is evidence for class 0, the right half against it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(0.1 * chequers() * halves())

    def forward(self, images: Tensor) -> Tensor:
        evidence = (images * self.weights).flatten(1).sum(1)
        return torch.stack([evidence, torch.zeros_like(evidence)], 1)


def chequers() -> Tensor:
    """So that no blurred and no mean colour has any evidence in it."""
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    return (1.0 - 2.0 * ((rows + columns) % 2)).double()


def halves() -> Tensor:
    """1 on the left and -1 on the right."""
    return torch.where(torch.arange(SIDE) < SIDE // 2, 1.0, -1.0).double().expand(SIDE, SIDE)


def one_pixel() -> Tensor:
    found = torch.zeros(SIDE, SIDE).double()
    found[2, 1] = 1
    return found


@pytest.fixture
def behaving(monkeypatch) -> Callable[..., str]:
    """Methods that are made of the network and the image in a way that is known."""

    def add(name: str, function: Callable[[nn.Module, Tensor], Tensor]) -> str:
        def made(runner) -> Tensor:
            return function(runner.model, runner.image).unsqueeze(1)

        method = Method(name, made, name, "none", "", passes="several", at="input", grid="input")
        monkeypatch.setitem(METHODS, name, method)
        return name

    return add


def weights_of(network: nn.Module, images: Tensor) -> Tensor:
    """What the network has learnt, whatever the image."""
    return next(network.parameters()).detach().reshape(1, SIDE, SIDE).expand(len(images), -1, -1).clone()


def image_itself(network: nn.Module, images: Tensor) -> Tensor:
    return images[:, 0].clone()


def fine_print(network: nn.Module, images: Tensor) -> Tensor:
    """Another map for every image, however near."""
    return torch.sin(1e5 * images[:, 0])


BETTER_AND_WORSE = {"maps": (one_pixel(), torch.ones(SIDE, SIDE))}
"""By what a metric of maps needs, a better and a worse map; otherwise, the map of the evidence and its opposite."""

BEHAVIOUR = {"max-sensitivity": (weights_of, fine_print), "stability": (weights_of, fine_print)}
"""Of metrics of methods, one that behaves well and one that does not, if these are not ``weights_of`` and
``image_itself``."""

SETTINGS = {
    "pointing-game": {"tolerance": 0.5},
    "insertion": {"start": "mean"},
    "occlusion-correlation": {"window": 2, "stride": 1},
    "data-randomization": {"other": TinyNetwork.build()},
}


def chequered() -> saywhy.Explanation:
    images = chequers()[None, None]
    return saywhy.explain(Halves(), images, 0, "saliency")


def on_the_left() -> Tensor:
    return halves() > 0


def context_of(explanation: saywhy.Explanation) -> EvaluationContext:
    masks, boxes = [[on_the_left().numpy()]], [[[(0.0, 0.0, SIDE / 2, float(SIDE))]]]
    return EvaluationContext(explanation, explanation.methods[0], explanation.layers[0], masks, boxes)


def both(name: str, behaving: Callable[..., str]) -> tuple[float, float]:
    """What a metric gives to the better and to the worse of what is known."""
    metric, own = METRICS[name], {k: v for k, v in SETTINGS.get(name, {}).items() if k != "other"}
    if metric.needs != "method":
        case = context_of(chequered())
        maps = BETTER_AND_WORSE.get(metric.needs, (halves(), -halves()))
        found = [case.value(metric, one.expand(1, 1, -1, -1).float(), **own) for one in maps]
    elif name not in ("random-logit", "completeness-error"):
        found = []
        for function in BEHAVIOUR.get(name, (weights_of, image_itself)):
            method = behaving(f"known-{function.__name__}", function)
            explanation = saywhy.explain(Halves(), chequers()[None, None], 0, method)
            if name == "data-randomization":
                own = {"other": other_halves()}
            found.append(context_of(explanation).value(metric, explanation.maps, **own))
    elif name == "random-logit":
        net, images = TinyNetwork.build(head="linear"), some_image()
        found = []
        for method in ("gradcam", "eigencam"):
            kept = {"relu": False} if method == "gradcam" else {}
            explanation = saywhy.explain(net, images, None, method, "features", **kept)
            found.append(metric.function(explanation, method, "features"))
    else:
        net, images = TinyNetwork.build(smooth=True), some_image()
        found = []
        for steps in (60, 1):
            explanation = saywhy.explain(net, images, 0, "integrated-gradients", steps=steps)
            found.append(metric.function(explanation, "integrated-gradients", "input"))
    return float(found[0].mean()), float(found[1].mean())


def some_image() -> Tensor:
    return torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def other_halves() -> Halves:
    """The same architecture, and other weights."""
    other = Halves()
    other.weights.data = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double()
    return other


@pytest.mark.parametrize("name", METRICS)
def test_better_map_beats_worse_map(name, behaving):
    better, worse = both(name, behaving)
    metric = METRICS[name]
    assert metric.beats(better, worse), (better, worse)
    assert not metric.beats(worse, better)
    assert not metric.beats(better, better)
    for value in (better, worse):
        assert metric.low - 1e-12 <= value <= metric.high + 1e-12


@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].needs != "method"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), rectified=st.booleans(), grid=st.sampled_from([(1, 1), (4, 3), (12, 12)]))
def test_values_of_random_maps_lie_in_the_range(name, seed, rectified, grid):
    maps = torch.randn(2, 2, *grid, generator=torch.Generator().manual_seed(seed))
    found = asked_of(seed % 3).value(METRICS[name], maps.relu() if rectified else maps)
    assert found.shape == (2, 2)
    assert found.dtype == torch.float64
    assert bool(((found >= METRICS[name].low) & (found <= METRICS[name].high)).all()), found


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].needs == "method" and n != "completeness-error"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_values_of_methods_lie_in_the_range(name, seed, method):
    case = asked_of(seed).at(method, "features" if method == "gradcam" else "input")
    own = {k: v for k, v in SETTINGS.get(name, {}).items() if k == "other"}
    found = case.value(METRICS[name], case.maps, **own)
    assert found.shape == (2, 2)
    assert bool(((found >= METRICS[name].low) & (found <= METRICS[name].high)).all()), found


asked: dict[int, EvaluationContext] = {}


def asked_of(seed: int) -> EvaluationContext:
    """A small network with random weights, two classes explained on two images with objects at random positions."""
    if seed not in asked:
        generator = np.random.default_rng(seed)
        images = [Image.fromarray(generator.integers(0, 256, (14, 18, 3), dtype=np.uint8)) for _ in range(2)]
        model = saywhy.load(TinyNetwork.build(seed=seed), input_size=12)
        explanation = saywhy.explain(model, images, [0, 2], ["gradcam", "saliency"], "features", relu=False)
        corners = generator.integers(0, 6, (2, 2, 2))
        masks = [[np.zeros((14, 18), bool) for _ in range(2)] for _ in range(2)]
        for b, t in np.ndindex(2, 2):
            left, top = corners[b, t]
            masks[b][t][top : top + 5, left : left + 7] = True
        boxes = [[[(x, y, x + 7, y + 5)] for x, y in row] for row in corners.tolist()]
        asked[seed] = EvaluationContext(explanation, "gradcam", "features", masks, boxes, probes=8)
    return asked[seed]


SCORED = "in units of the score"


def of_a_number(factor: float, offset: float = 0.0) -> EvaluationContext:
    """The small network, of which a number is asked that is no probability."""
    case = asked_of(0)
    images = [source.image for source in case.explanation.images]
    model = saywhy.load(TinyNetwork.build(), input_size=12)

    def number(output: Tensor) -> Tensor:
        return factor * (output[:, 0] - output[:, 2]) + offset

    explanation = saywhy.explain(model, images, [number, number], "gradcam", "features", relu=False)
    return EvaluationContext(explanation, "gradcam", "features", case.masks, case.boxes, probes=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].needs != "method"])
def test_declared_range_holds_for_scores_that_are_no_probability(name):
    metric, maps = METRICS[name], asked_of(0).maps
    offset = 500.0 if name == "average-drop" else 0.0  # a share of a number that has to be positive
    one, many = (of_a_number(factor, offset * factor).value(metric, maps) for factor in (1.0, 1000.0))
    scaled = torch.allclose(many, 1000 * one, rtol=1e-3) and bool(one.any())
    assert scaled == (metric.otherwise == SCORED), (one, many)
    assert metric.range.endswith(f" of a probability, else {SCORED}") == scaled
    if not metric.otherwise:
        assert bool(((many >= metric.low) & (many <= metric.high)).all())


def test_average_drop_of_a_raw_score_can_exceed_one():
    """The score falls from slightly above zero to far below it."""
    metric, found = METRICS["average-drop"], Halves()
    found.weights.data.abs_()

    def number(output: Tensor) -> Tensor:
        return output[:, 0] + 1

    explanation = saywhy.explain(found, -torch.ones(1, 1, SIDE, SIDE).double() / 64, number, "saliency")
    case = EvaluationContext(explanation, "saliency", "input")
    value = case.value(metric, halves()[None, None].float(), fill=-torch.ones(1, SIDE, SIDE).double()).item()
    assert value > metric.high
    assert metric.range == "0 to 1 of a probability, else 0 to inf"


HELPERS = {
    "boxes": {"found_boxes", "box_masks"},
    "consensus": {"preference"},
    "correlation": {"ranks", "scaled"},
    "counting": {"round_counts"},
    "diversity": {"check_lists"},
    "faithfulness": {"probe"},
    "human_attention": {"on_grid", "random_maps", "centre_prior"},
    "imputation": {"imputed"},
    "localization": {"positive_part", "fraction_of_maximum", "checked_masks", "checked_share"},
    "measure": {"measure", "hit_rate_interval"},
    "class_agnostic": {
        "random_baseline",
        "centre_prior_baseline",
        "edge_detector_baseline",
        "shifted_baseline",
        "centre_prior_of",
        "sample_seed",
    },
    "question_types": {"question_type"},
    "pointing": {"best_rejection_threshold", "cell_masks", "mosaic"},
    "registry": {"metric", "dataset_metric", "find_metric", "register", "all_metrics", "all_dataset_metrics"},
    "removal": {"ranked", "at_pixels", "fitting"},
    "sanity": {"similarity_after_randomization", "map_correlation", "randomized_maps"},
}
"""Functions that measure nothing by themselves, or one answer of what a listed function measures all of."""

import_metrics()
BESIDE = all_dataset_metrics()


@pytest.mark.parametrize("one", BESIDE, ids=lambda one: one.name)
def test_dataset_level_metric_entries_match_their_functions(one):
    file = inspect.getmodule(one.function)
    assert getattr(file, one.function.__name__) is one.function
    assert file.__name__.endswith(one.name.rpartition(".")[0])
    assert all((one.value, one.better, one.range, one.paper))
    if one.paper not in ("ours", "common"):
        assert one.paper[-4:].isdigit()
        author, year = one.paper.split()[0].rstrip(","), one.paper[-4:]
        # Not in the decorator, where the registry has it from: the docstrings say it to whoever reads the code.
        source = inspect.getsource(file).replace(f'paper="{one.paper}"', "")
        assert author in source
        assert year in source
    for other in one.value.split("`")[1::2]:
        if not other.startswith("."):
            assert hasattr(import_module(f"saywhy.metrics.{other.split('.')[0]}"), other.split(".")[1])


def test_every_public_metric_function_is_listed():
    """Every public function below saywhy.metrics is a metric, a dataset-level metric or a helper."""
    listed = {m.function for m in METRICS.values()}
    named = {one.name for one in BESIDE}
    assert len(named) == len(BESIDE)
    for found in pkgutil.iter_modules(metrics.__path__):
        module = import_module(f"saywhy.metrics.{found.name}")
        own = {name for name, it in vars(module).items() if inspect.isfunction(it) and it.__module__ == module.__name__}
        public = {name for name in own if not name.startswith("_") and getattr(module, name) not in listed}
        beside = {name for name in public if f"{found.name}.{name}" in named}
        assert public - beside == HELPERS.get(found.name, set()), found.name


def test_vqa_accuracy_is_listed():
    assert "tasks.vqa.accuracy.vqa_accuracy" in {one.name for one in BESIDE}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_parameters_are_keywords_with_defaults(metric: Metric):
    parameters = inspect.signature(metric.function).parameters.values()
    others = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert len(others) == ARGUMENTS[metric.needs]
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in others)
    for name, default in metric.parameters.items():
        assert default is not inspect.Parameter.empty, f"{name} has no default"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metric_metadata_is_complete(metric: Metric):
    assert METRICS[metric.name] is metric
    assert find_metric(metric.name) is metric
    assert metric.name == metric.name.lower()
    assert metric.low < metric.high
    assert math.isfinite(metric.low)  # so that pages can draw it
    assert metric.title
    assert metric.equation
    assert metric.paper == "ours" or metric.paper[-4:].isdigit()
    doc = inspect.getdoc(metric.function) or ""
    assert all(name in doc or "as for" in doc for name in metric.parameters)
    author, file = metric.paper.split()[0], inspect.getsource(inspect.getmodule(metric.function))
    assert author in file.replace(f'paper="{metric.paper}"', "") or author == "ours"


@pytest.mark.parametrize("name", METRICS)
def test_metric_has_paper_equation_doctest_and_oracle(name):
    assert not missing(METRICS[name]), "\n".join(missing(METRICS[name]))


def missing(metric: Metric) -> list[str]:
    """What a metric has to come with and does not, so that whoever adds one reads what to do."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(metric.function) or "")
    said = {
        f"'{metric.name}' names no paper: paper= in its decorator": metric.paper,
        f"'{metric.name}' has no equation: equation= in its decorator": metric.equation,
        f"'{metric.name}' has no doctest with a value in its docstring": [each for each in examples if each.want],
        f"'{metric.name}' has no oracle: @metric_oracle(\"{metric.name}\") in tests/oracles": metric.name
        in METRIC_ORACLES,
    }
    return [what for what, there in said.items() if not there]


def test_missing_parts_of_a_metric_are_listed():
    bare = Metric("bare", lambda maps: maps, "Bare", "", "", "higher", 0.0, 1.0, "maps")
    assert [line.partition(":")[0] for line in missing(bare)] == [
        "'bare' names no paper",
        "'bare' has no equation",
        "'bare' has no doctest with a value in its docstring",
        "'bare' has no oracle",
    ]


def test_oracles_are_for_metrics_that_exist():
    assert set(METRIC_ORACLES) <= set(METRICS)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("deletoin", "'deletion'"),
        ("Insertions", "'insertion'"),
        ("pointing", "'pointing-game'"),
        ("max sensitvity", "'max-sensitivity'"),
        ("zzz", None),
    ],
)
def test_unknown_metric_name_raises_with_the_nearest(name, nearest):
    with pytest.raises(MetricError, match=f"no metric '{name}'") as said:
        find_metric(name)
    assert "`saywhy metrics` lists them" in str(said.value)
    assert ("Nearest" in str(said.value)) is (nearest is not None)
    assert nearest is None or nearest in str(said.value)


def test_custom_metric_can_be_registered(monkeypatch):
    monkeypatch.setattr(METRICS, "_values", dict(METRICS))
    mine = Metric(
        "peak",
        lambda maps, *, floor=0.0: maps.flatten(2).amax(2).clamp_min(floor),
        "Peak",
        "ours",
        "max M",
        "higher",
        0.0,
        math.inf,
        "maps",
    )
    register(mine)
    register(mine)  # again is no mistake
    assert find_metric("peak") is mine
    explanation = chequered()
    assert measure(explanation, "peak", floor=5.0)["peak"].values.item() == 5
    with pytest.raises(MetricError, match="a metric 'peak' already"):
        register(replace(mine, better="lower"))
    with pytest.raises(MetricError, match="a metric 'deletion' already"):
        register(replace(mine, name="deletion"))
