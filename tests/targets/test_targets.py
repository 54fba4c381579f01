"""Targets in every form in which they can be given, and the errors of invalid ones."""

import math
import operator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import GradientError, TargetError
from saywhy.output import ModelOutput, log_odds, parse_output
from saywhy.targets import (
    Class,
    Function,
    PerSampleTarget,
    Target,
    TargetList,
    Top,
    as_target,
    contrast,
    counterfactual,
)

LAYOUT = saywhy.Layout("channels-first", (6, 6))
explain = partial(saywhy.explain, layout=LAYOUT)  # given, because random networks do not always prove theirs

LABELS = ("Siamese cat", "tabby, tiger cat", "bull mastiff", "boxer")
LOGITS = torch.tensor([[1.0, 3.0, -2.0, 0.5], [0.0, -1.0, 4.0, 2.0], [9.0, 1.0, 2.0, 3.0]])


def output(**about: Any) -> ModelOutput:
    return ModelOutput(**{"logits": LOGITS, "labels": LABELS, "raw": LOGITS, **about})


def assert_scores(target: Any, wanted: Any, **about: Any) -> None:
    """The scores [batch, target] of whatever was given as a target."""
    found = as_target(target).evaluate(output(**about))
    torch.testing.assert_close(found.scores, torch.as_tensor(wanted, dtype=torch.float32))
    assert found.classes.shape == found.scores.shape
    assert [len(row) for row in found.names] == [found.scores.shape[1]] * len(found.scores)


class TestOneClass:
    @pytest.mark.parametrize(
        ("given", "index"),
        [
            (2, 2),
            (0, 0),
            (-1, 3),
            (-4, 0),
            ("boxer", 3),
            ("Boxer", 3),
            ("SIAMESE CAT", 0),
            ("tabby, tiger cat", 1),
            ("tiger cat", 1),
            ("Tabby", 1),
            ("3", 3),
            (np.int64(2), 2),
            (np.array(2), 2),
            (torch.tensor(2), 2),
            (torch.tensor(2, dtype=torch.uint8), 2),
        ],
    )
    def test_class_is_found_by_index_or_name(self, given, index):
        assert_scores(given, LOGITS[:, index : index + 1])
        columns = as_target(given).evaluate(output())
        assert columns.classes.tolist() == [[index]] * 3
        assert columns.names == [[LABELS[index]]] * 3

    @pytest.mark.parametrize("given", [np.int64(2), torch.tensor(2), np.uint8(2)])
    def test_numpy_and_torch_indices_support_arithmetic(self, given):
        assert_scores(Class(given) - Class(0), LOGITS[:, 2:3] - LOGITS[:, :1])

    def test_label_takes_precedence_over_index(self):
        assert as_target("1").evaluate(output(labels=("3", "2", "1", "0"))).classes.tolist() == [[2]] * 3

    def test_model_without_labels_names_classes_by_index(self):
        assert as_target(1).evaluate(output(labels=None)).names == [["class 1"]] * 3
        with pytest.raises(TargetError, match=r"no class 'boxer': this model has no labels. Give an index from 0 to 3"):
            as_target("boxer").evaluate(output(labels=None))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("bull mastif", r"no class 'bull mastif'; nearest: 'bull mastiff' \(2\)"),
            ("tigger cat", r"no class 'tigger cat'; nearest: .*'tabby, tiger cat' \(1\)"),
            ("zzzzz", r"no class 'zzzzz'; the classes are 'Siamese cat', 'tabby, tiger cat', .*'boxer'\."),
            ("tiger cat - boxer", r"nearest: .*A contrast is targets.Class"),
            ("7", "no class '7'"),
            (4, "no class 4: the model has 4 classes, 0 to 3"),
            (-5, "no class -5: the model has 4 classes, 0 to 3"),
        ],
    )
    def test_unknown_class_raises_with_suggestions(self, given, message):
        with pytest.raises(TargetError, match=message):
            as_target(given).evaluate(output())

    @pytest.mark.parametrize("wrong", [1.5, None, True, (1,)])
    def test_class_of_wrong_type_raises(self, wrong):
        with pytest.raises(TargetError, match="a class must be an index or a label, got"):
            Class(wrong).evaluate(output())

    def test_label_beyond_the_number_of_classes_raises(self):
        with pytest.raises(TargetError, match="'fifth' is label 4 of 5, but the model gives only 4 classes"):
            Class("fifth").evaluate(output(labels=(*LABELS, "fifth")))


class TestTop:
    def test_none_selects_the_top_class_of_each_sample(self):
        columns = as_target(None).evaluate(output())
        assert columns.classes.tolist() == [[1], [2], [0]]
        assert columns.names == [["tabby, tiger cat"], ["bull mastiff"], ["Siamese cat"]]
        torch.testing.assert_close(columns.scores, torch.tensor([[3.0], [4.0], [9.0]]))

    def test_top_k_is_sorted_by_score(self):
        assert Top(3).evaluate(output()).classes.tolist() == [[1, 0, 3], [2, 3, 0], [0, 3, 2]]

    @pytest.mark.parametrize("k", [0, -1, 5, 1.5, "two"])
    def test_k_out_of_range_raises(self, k):
        with pytest.raises(
            TargetError, match=rf"number of top classes must be a whole number from 1 to 4, got {k!r}\.$"
        ):
            Top(k).evaluate(output())

    @pytest.mark.parametrize("k", [np.int64(2), np.array(2), torch.tensor(2)])
    def test_numpy_and_torch_k_equals_python_k(self, k):
        assert Top(k).evaluate(output()).classes.tolist() == Top(2).evaluate(output()).classes.tolist()


class TestPerSampleTarget:
    @pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int8, torch.uint8])
    def test_tensor_gives_one_class_per_sample(self, kind):
        assert_scores(torch.tensor([1, 0, 3], dtype=kind), [[3.0], [0.0], [3.0]])

    @pytest.mark.slow
    def test_tensor_gives_several_classes_per_sample(self):
        assert_scores(torch.tensor([[1, 0], [0, 2], [3, 3]]), [[3.0, 1.0], [0.0, 4.0], [3.0, 3.0]])

    def test_numpy_array_is_accepted_like_a_tensor(self):
        assert_scores(np.array([1, 0, 3]), [[3.0], [0.0], [3.0]])

    def test_negative_index_counts_from_the_end(self):
        columns = as_target(torch.tensor([-1, -4, 0], dtype=torch.int8)).evaluate(output())
        assert columns.classes.tolist() == [[3], [0], [0]]

    def test_small_integer_dtypes_do_not_overflow(self):
        many = ModelOutput(torch.arange(1000.0).expand(2, 1000))
        assert PerSampleTarget(torch.tensor([200, 7], dtype=torch.uint8)).evaluate(many).classes.tolist() == [
            [200],
            [7],
        ]
        assert PerSampleTarget(torch.tensor([-1, 7], dtype=torch.int8)).evaluate(many).classes.tolist() == [[999], [7]]

    @pytest.mark.parametrize(
        "wrong",
        [
            torch.tensor([1, 0]),
            torch.tensor([1, 0, 3, 2]),
            torch.tensor([[1, 0, 3]]),
            torch.tensor([1.0, 0.0, 3.0]),
            torch.tensor([True, False, True]),
            torch.zeros(3, 4, dtype=torch.bool),
            torch.zeros(3, 1, 1, dtype=torch.int64),
            torch.zeros(3, 0, dtype=torch.int64),
            np.array([1.0, 0.0, 3.0]),
        ],
        ids=str,
    )
    def test_wrong_shapes_and_types_raise(self, wrong):
        with pytest.raises(TargetError, match=r"integers \[batch\] or \[batch, target\] for 3 samples, got torch\."):
            as_target(wrong).evaluate(output())

    @pytest.mark.parametrize("wrong", [4, -5])
    def test_class_out_of_range_raises(self, wrong):
        with pytest.raises(TargetError, match=f"no class {wrong}: the model has 4 classes"):
            as_target(torch.tensor([0, wrong, 1])).evaluate(output())


class TestTargetList:
    def test_list_gives_several_targets_for_every_sample(self):
        assert_scores(["boxer", 0, -2], LOGITS[:, [3, 0, 2]])
        assert as_target(["boxer", 0]) == TargetList((Class("boxer"), Class(0)))

    def test_list_accepts_every_kind_of_target(self):
        given = [Class(1) - Class(0), None, torch.tensor([3, 2, 1]), lambda out: out.sum(1), [0, 1]]
        columns = as_target(given).evaluate(output())
        wanted = [LOGITS[:, 1] - LOGITS[:, 0], LOGITS.amax(1), LOGITS[range(3), [3, 2, 1]], LOGITS.sum(1)]
        torch.testing.assert_close(columns.scores, torch.stack([*wanted, LOGITS[:, 0], LOGITS[:, 1]], 1))
        assert columns.classes.tolist() == [[-1, 1, 3, -1, 0, 1], [-1, 2, 2, -1, 0, 1], [-1, 0, 1, -1, 0, 1]]

    def test_empty_list_raises(self):
        with pytest.raises(TargetError, match="expected at least one target, got an empty list"):
            as_target([])


class TestArithmetic:
    def test_contrast_is_the_difference_of_two_scores(self):
        for target in (Class("boxer") - Class(0), contrast("boxer", 0), contrast(Class("boxer"), Class(0))):
            assert_scores(target, LOGITS[:, 3:] - LOGITS[:, :1])
            assert target.evaluate(output()).names == [["boxer - Siamese cat"]] * 3
            assert target.evaluate(output()).classes.tolist() == [[-1]] * 3

    def test_counterfactual_is_the_negated_score(self):
        for target in (-Class(2), counterfactual(2), counterfactual("bull mastiff"), Class(2) * -1):
            assert_scores(target, -LOGITS[:, 2:3])
            assert target.evaluate(output()).names == [["-bull mastiff"]] * 3

    def test_sums_of_targets_are_weighted_sums_of_scores(self):
        target = 2 * Class(0) + Class(1) * 0.5 - (Class(2) - Class(3))
        assert_scores(target, (2 * LOGITS[:, 0] + 0.5 * LOGITS[:, 1] - LOGITS[:, 2] + LOGITS[:, 3])[:, None])
        assert target.evaluate(output()).names[0] == ["2 Siamese cat + 0.5 tabby, tiger cat - bull mastiff + boxer"]

    def test_double_negation_is_identity(self):
        turned = -Class(1)
        assert_scores(-turned, LOGITS[:, 1:2])

    def test_single_score_is_broadcast_over_several(self):
        target = Top(2) - Class(0)
        wanted = LOGITS.topk(2, 1).values - LOGITS[:, :1]
        assert_scores(target, wanted)
        assert target.evaluate(output()).names[0] == ["tabby, tiger cat - Siamese cat", "Siamese cat - Siamese cat"]

    def test_functions_support_arithmetic(self):
        target = Function(lambda out: out.amax(1), "the most") - Class(0)
        assert_scores(target, LOGITS.amax(1, keepdim=True) - LOGITS[:, :1])
        assert target.evaluate(output()).names[0] == ["the most - Siamese cat"]

    def test_sum_of_different_lengths_raises(self):
        with pytest.raises(TargetError, match="equal numbers of scores a sample, or 1; got 2 and 3"):
            (Top(2) - Top(3)).evaluate(output())

    @pytest.mark.parametrize("wrong", ["boxer", 3, None])
    @pytest.mark.parametrize("how", [operator.add, operator.sub])
    def test_adding_a_non_target_raises(self, wrong, how):
        with pytest.raises(TypeError, match="unsupported operand"):
            how(Class(0), wrong)

    def test_multiplying_two_targets_raises(self):
        with pytest.raises(TypeError):
            Class(0) * Class(1)


class TestFunctions:
    def test_function_receives_the_raw_output(self):
        assert_scores(lambda out: out["deep"][0], [[1.0], [2.0], [3.0]], raw={"deep": [torch.tensor([1.0, 2, 3])]})

    def test_single_column_result_is_accepted(self):
        assert_scores(lambda out: out[:, 1:2], LOGITS[:, 1:2])

    def test_names_come_from_the_function_or_argument(self):
        def largest(out: Tensor) -> Tensor:
            return out.amax(1)

        assert as_target(largest).evaluate(output()).names[0] == ["largest"]
        assert as_target(lambda out: out.amax(1)).evaluate(output()).names[0] == ["function"]
        assert Function(largest, "the top score").evaluate(output()).names[0] == ["the top score"]

    @pytest.mark.parametrize(
        ("function", "came"),
        [
            (lambda out: out.sum(), r"torch.float32 \[\]"),
            (lambda out: out, r"torch.float32 \[3, 4\]"),
            (lambda out: out[:2, 0], r"torch.float32 \[2\]"),
            (lambda out: out.argmax(1), r"torch.int64 \[3\]"),
            (lambda out: 3.0, "float"),
            (lambda out: None, "NoneType"),
        ],
    )
    def test_wrong_result_raises_with_its_type(self, function, came):
        with pytest.raises(TargetError, match=rf"one floating-point number a sample, \[3\], got {came}"):
            as_target(function).evaluate(output())

    def test_error_of_the_function_is_named_and_chained(self, tiny, images):
        def broken(out: Tensor) -> Tensor:
            raise ZeroDivisionError("mine")

        with pytest.raises(TargetError, match="target function 'broken' failed: ZeroDivisionError: mine") as caught:
            explain(tiny(), images(), broken, layer="features")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_name_of_a_failing_partial_is_that_of_its_function(self):
        def inner(out: Tensor, k: int) -> Tensor:
            return out["missing"][:, k]

        with pytest.raises(
            TargetError, match=r"'inner' failed: .*\. It gets the model's output \(\[3, 4\]\)"
        ) as caught:
            as_target(partial(inner, k=1)).evaluate(output())
        assert caught.value.__cause__ is not None

    def test_error_of_an_own_target_is_named_and_chained(self, tiny, images):
        class Broken(Target):
            def evaluate(self, output: ModelOutput) -> Any:
                raise KeyError("mine")

        with pytest.raises(TargetError, match="the target Broken failed: KeyError: 'mine'") as caught:
            explain(tiny(), images(), Broken(), layer="features")
        assert isinstance(caught.value.__cause__, KeyError)

    def test_lack_of_memory_in_a_function_stays_what_it_is(self):
        def large(out: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        with pytest.raises(torch.OutOfMemoryError):
            as_target(large).evaluate(output())

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("method", ["gradcam", "occlusion", "saliency"])
    def test_score_that_is_not_finite_raises(self, tiny, images, value, method):
        def broken(out: Tensor) -> Tensor:
            return out[:, 0] * value

        at = {"layer": "features", "layout": LAYOUT} if method == "gradcam" else {}
        with pytest.raises(
            TargetError, match=r"the score of 'broken' is -?(nan|inf) for sample 0: .*nothing to explain"
        ):
            saywhy.explain(tiny(), images(), broken, method, **at)

    def test_sum_that_is_not_finite_raises(self, tiny, images):
        with pytest.raises(TargetError, match=r"is nan for sample 0|is -?inf for sample 0"):
            explain(tiny(), images(), float("inf") * Class(0), layer="features")

    def test_score_that_is_not_finite_for_an_altered_image_raises(self, tiny, images):
        """The score is finite for the image itself, and infinite where a part of it is hidden."""
        model, batch = tiny(), images(1)
        with torch.no_grad():
            own = model(batch)[0, 0]

        def inverse(out: Tensor) -> Tensor:
            return torch.where((out[:, 0] - own).abs() < 1e-5, out[:, 0], torch.inf)

        with pytest.raises(TargetError, match=r"is inf for sample 0: .* altered ones included"):
            saywhy.explain(model, batch, inverse, "occlusion")

    @pytest.mark.parametrize("method", ["gradcam", "saliency"])
    def test_gradient_that_is_not_finite_raises(self, tiny, images, method):
        """The root has no slope at 0, so the score is finite and its gradient is not."""
        at = {"layer": "features", "layout": LAYOUT} if method == "gradcam" else {}
        with pytest.raises(GradientError, match="is NaN or infinite, although the score is finite"):
            saywhy.explain(tiny(), images(), lambda out: (out[:, 0] * 0).sqrt(), method, **at)

    def test_function_independent_of_the_layer_raises(self, tiny, images):
        with pytest.raises(GradientError, match="no gradient with respect to the layer"):
            explain(tiny(), images(), lambda out: out[:, 0].detach(), layer="features")


@pytest.mark.parametrize(
    "wrong", [2.0, np.float64(2), {"boxer": 1}, {1, 2}, object(), torch.tensor(2.7), True, torch.tensor(True) * 1.0]
)
def test_invalid_target_raises(wrong):
    with pytest.raises(TargetError, match=r"a target must be|a class must be"):
        as_target(wrong)


def test_as_target_returns_targets_unchanged():
    target = Class(1)
    assert as_target(target) is target
    assert isinstance(target, Target)


class TestScores:
    def test_multiclass_scores_use_softmax(self):
        assert_scores(Class(1, "logit"), LOGITS[:, 1:2])
        assert_scores(Class(1, "probability"), LOGITS.softmax(1)[:, 1:2])
        assert_scores(Class(1, "log-probability"), LOGITS.log_softmax(1)[:, 1:2])

    def test_multilabel_scores_use_sigmoid(self):
        assert_scores(Class(1, "probability"), LOGITS.sigmoid()[:, 1:2], multilabel=True)
        assert_scores(Class(1, "log-probability"), LOGITS.sigmoid().log()[:, 1:2], multilabel=True)

    def test_single_logit_scores_use_sigmoid(self):
        one = LOGITS[:, :1]
        assert_scores(Class(0, "probability"), one.sigmoid(), logits=one, labels=("defect",))
        assert_scores(Class(0, "log-probability"), one.sigmoid().log(), logits=one, labels=None)

    def test_score_of_the_target_overrides_that_of_the_call(self):
        assert_scores([Class(1), Class(1, "logit")], torch.stack([LOGITS.softmax(1)[:, 1], LOGITS[:, 1]], 1),
                      score="probability")  # fmt: skip
        assert_scores(None, LOGITS.softmax(1).amax(1, keepdim=True), score="probability")
        assert_scores(torch.tensor([0, 0, 0]), LOGITS.log_softmax(1)[:, :1], score="log-probability")

    def test_log_probability_is_finite_for_extreme_logits(self):
        far = torch.tensor([[200.0, -200.0]])
        assert_scores(Class(1, "log-probability"), [[-400.0]], logits=far)
        assert_scores(Class(1, "log-probability"), [[-200.0]], logits=far, multilabel=True)

    def test_log_odds_of_softmax_equal_the_definition(self):
        p = LOGITS.double().softmax(1)
        assert_scores(Class(1, "log-odds"), (p / (1 - p)).log()[:, 1:2].to(LOGITS.dtype))
        assert_scores(Class(1, "log-odds"), LOGITS[:, 1:2], multilabel=True)

    def test_log_odds_of_a_probability_that_rounds_to_one(self):
        far = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
        assert_scores(Class(1, "log-odds"), [[200.0 - math.log(2)]], logits=far)
        (gradient,) = torch.autograd.grad(log_odds(far)[0, 1], far)
        torch.testing.assert_close(gradient, torch.tensor([[-0.5, 1.0, -0.5]]))

    def test_unknown_score_raises(self):
        with pytest.raises(
            TargetError, match="score must be logit, probability, log-probability or log-odds, got 'odds'"
        ):
            Class(1, "odds").evaluate(output())

    @pytest.mark.parametrize("score", ["logit", "probability", "log-probability", "log-odds"])
    def test_score_scales_the_maps_by_its_derivative(self, tiny, images, score):
        """The gradient of the probability is that of the logit times p (1 - p), for a yes or no."""
        model, batch = saywhy.load(tiny(), multilabel=True), images()
        logit = explain(model, batch, 1, layer="features", relu=False)
        found = explain(model, batch, 1, layer="features", relu=False, score=score)
        p = logit.scores.sigmoid()
        slope = {
            "logit": torch.ones_like(p),
            "probability": p * (1 - p),
            "log-probability": 1 - p,
            "log-odds": torch.ones_like(p),
        }[score]
        torch.testing.assert_close(found.maps, logit.maps * slope[:, :, None, None], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(found.probabilities, p)


@dataclass
class Heads:
    """What a network with two heads returns."""

    aux: Any
    logits: Any


class TestOutputs:
    @pytest.mark.parametrize(
        "output",
        [
            LOGITS,
            (LOGITS, torch.zeros(3, 8, 8, 8)),
            [torch.zeros(3, 8, 8, 8), LOGITS],
            {"logits": LOGITS, "features": torch.zeros(3, 7)},
            {"features": torch.zeros(3, 7, 7), "scores": LOGITS},
            Heads(aux=torch.zeros(3, 9), logits=LOGITS),
            ({"deep": [torch.zeros(3, dtype=torch.int64), LOGITS]},),
        ],
        ids=["tensor", "tuple", "list", "dict", "dict of scores", "dataclass", "nested"],
    )
    def test_class_scores_are_found(self, output):
        assert parse_output(output, 3).logits is LOGITS

    def test_one_number_per_sample_is_one_class(self):
        assert parse_output(LOGITS[:, 0], 3).logits.shape == (3, 1)

    @pytest.mark.parametrize(
        ("output", "path"),
        [
            ((torch.zeros(3, 9), LOGITS), 1),
            ((torch.zeros(3, 9), LOGITS), -1),
            ((torch.zeros(3, 9), LOGITS), "1"),
            ({"a": {"b": (None, LOGITS)}}, "a.b.1"),
            (Heads(aux={"logits": LOGITS}, logits=torch.zeros(3, 9)), "aux.logits"),
            ([Heads(aux=LOGITS, logits=None)], "0.aux"),
        ],
    )
    def test_output_path_selects_the_scores(self, output, path):
        assert parse_output(output, 3, path).logits is LOGITS

    @pytest.mark.parametrize(
        ("output", "path", "message"),
        [
            ({"logits": LOGITS}, "scores", r"has no 'scores'. It is a dict with logits"),
            (Heads(aux=None, logits=LOGITS), "aux.logits", "has no 'logits'. It is a NoneType"),
            (Heads(aux=None, logits=LOGITS), "main", "has no 'main'. It is a Heads with aux, logits"),
            ((LOGITS,), 3, "has no '3'. It is a tuple with 0"),
            (Heads(aux=None, logits=LOGITS), "aux", "is a NoneType, not a tensor of scores"),
        ],
    )
    def test_invalid_output_path_raises_with_the_available_keys(self, output, path, message):
        with pytest.raises(TargetError, match=message):
            parse_output(output, 3, path)

    @pytest.mark.parametrize("target", [None, 1, "boxer", torch.tensor([0, 1, 2]), Class(0) - Class(1), Top(2)])
    def test_output_without_class_scores_raises_with_advice(self, target):
        segmentation = parse_output({"out": torch.zeros(3, 21, 8, 8)}, 3)
        with pytest.raises(TargetError, match=r"output \(\[3, 21, 8, 8\]\) has no class scores .* target function"):
            as_target(target).evaluate(segmentation)

    def test_function_target_works_without_class_scores(self):
        segmentation = parse_output({"out": torch.ones(3, 21, 8, 8)}, 3)
        found = as_target(lambda out: out["out"][:, 5].mean((1, 2))).evaluate(segmentation)
        assert found.scores.tolist() == [[1.0], [1.0], [1.0]]


class Wrapped(nn.Module):
    """A network whose output is not one tensor, or whose inputs are two."""

    def __init__(self, network: nn.Module, output: Any) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, image: Tensor, weight: Tensor | None = None) -> Any:
        return self.output(self.network(image if weight is None else image * weight[:, None, None, None]))


class TakesOneDict(nn.Module):
    """A network whose only argument is a dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.network(batch["image"])


class TestExplain:
    @pytest.fixture
    def plain(self, tiny, images) -> Tensor:
        return explain(tiny(), images(3), 1, layer="features", relu=False).maps

    @pytest.mark.parametrize(
        ("wrap", "path"),
        [
            (lambda y: (y, y.detach()), None),
            (lambda y: {"logits": y, "other": y * 0}, None),
            (lambda y: Heads(aux=y * 0, logits=y), None),
            (lambda y: Heads(aux=(y * 0, {"deep": y}), logits=y * 0), "aux.1.deep"),
            (lambda y: [y * 0, y], 1),
        ],
        ids=["tuple", "dict", "dataclass", "nested path", "list path"],
    )
    def test_every_output_form_gives_the_same_map(self, tiny, images, plain, wrap, path):
        model = Wrapped(tiny(), wrap)
        found = explain(model, images(3), 1, layer="network.features", output=path, relu=False)
        torch.testing.assert_close(found.maps, plain)
        loaded = saywhy.load(model, output=path)
        again = explain(loaded, images(3), 1, layer="network.features", relu=False)
        torch.testing.assert_close(again.maps, plain)

    @pytest.mark.parametrize("how", ["tuple", "keywords", "one dict"])
    def test_several_inputs_are_accepted_in_every_form(self, tiny, images, plain, how):
        model, batch = Wrapped(tiny(), lambda y: y), images(3)
        weight = torch.tensor([1.0, 2.0, 0.5])
        inputs = {
            "tuple": (batch / weight[:, None, None, None], weight),
            "keywords": {"image": batch / weight[:, None, None, None], "weight": weight},
            "one dict": {"image": batch, "else": weight},
        }[how]
        if how == "one dict":
            model = TakesOneDict(tiny())
        found = explain(model, inputs, 1, layer="network.features", relu=False)
        torch.testing.assert_close(found.maps, plain, rtol=1e-4, atol=1e-6)
        split = explain(model, inputs, 1, layer="network.features", relu=False, batch_size=2)
        torch.testing.assert_close(split.maps, found.maps)

    def test_explanation_holds_labels_targets_and_probabilities(self, tiny, images):
        model, batch = saywhy.load(tiny(), labels=LABELS), images(3)
        found = explain(model, batch, ["tiger cat", None, Class(0) - Class(3)], layer="features", relu=False)
        with torch.no_grad():
            logits = tiny()(batch)
        top = logits.argmax(1).tolist()
        assert found.targets == [["tabby, tiger cat", LABELS[t], "Siamese cat - boxer"] for t in top]
        assert found.classes.tolist() == [[1, t, -1] for t in top]
        wanted = torch.stack([logits[:, 1], logits.amax(1), logits[:, 0] - logits[:, 3]], 1)
        torch.testing.assert_close(found.scores, wanted)
        torch.testing.assert_close(found.probabilities[:, :2], torch.stack([logits.softmax(1)[:, 1],
                                                                            logits.softmax(1).amax(1)], 1))  # fmt: skip
        assert bool(found.probabilities[:, 2].isnan().all())

    def test_unknown_label_raises_with_the_nearest(self, tiny, images):
        with pytest.raises(TargetError, match=r"no class 'boxxer'; nearest: 'boxer' \(3\)"):
            explain(saywhy.load(tiny(), labels=LABELS), images(), "boxxer", layer="features")

    @pytest.mark.parametrize("wrong", [torch.tensor([1]), torch.tensor([1, 2, 3])])
    def test_tensor_of_wrong_length_raises(self, tiny, images, wrong):
        with pytest.raises(TargetError, match="for 2 samples"):
            explain(tiny(), images(2), wrong, layer="features")

    def test_per_sample_targets_equal_samples_one_by_one(self, tiny, images):
        network, batch, classes = tiny(), images(3), torch.tensor([[2, 0], [1, 1], [0, 3]])
        found = explain(network, batch, classes, layer="features", relu=False)
        for b in range(3):
            for t in range(2):
                alone = explain(network, batch[b : b + 1], int(classes[b, t]), layer="features", relu=False)
                torch.testing.assert_close(found.maps[b : b + 1, t : t + 1], alone.maps, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("size", [1, 2])
    def test_batch_size_does_not_change_per_sample_targets(self, tiny, images, size):
        network, batch, classes = tiny(), images(3), torch.tensor([[2, 0], [1, 1], [0, 3]])
        whole = explain(network, batch, classes, layer="features", relu=False)
        split = explain(network, batch, classes, layer="features", relu=False, batch_size=size)
        assert split.targets == whole.targets
        torch.testing.assert_close(split.maps, whole.maps)

    @pytest.mark.parametrize("declared", [{"labels": ["defect"]}, {"multilabel": True}, {"scale": "logit"}])
    def test_single_logit_that_is_declared_has_a_probability(self, images, declared):
        network = saywhy.load(TinyNetwork.build(classes=1), **declared)
        found = explain(network, images(), None, layer="features", relu=False)
        assert found.classes.tolist() == [[0], [0]]
        assert found.score == "logit"
        torch.testing.assert_close(found.probabilities, found.scores.sigmoid())

    def test_single_unbounded_number_without_labels_has_no_probability(self, images):
        network = TinyNetwork.build(classes=1)
        found = explain(network, images(), None, layer="features", relu=False)
        declared = explain(saywhy.load(network, scale="logit"), images(), None, layer="features", relu=False)
        assert (found.score, found.probabilities, found.targets) == ("value", None, [["output 0"], ["output 0"]])
        torch.testing.assert_close(found.maps, declared.maps, rtol=0, atol=0)


def test_ambiguous_class_name_raises():
    output = ModelOutput(torch.zeros(1, 3), labels=["crane", "duck", "crane"])
    with pytest.raises(TargetError, match=r"2 classes are called 'crane': 0 \('crane'\), 2 \('crane'\)"):
        Class("crane").evaluate(output)
