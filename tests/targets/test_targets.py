"""Targets in every form in which they can be given, and the errors of invalid ones."""

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
from saywhy.output import ModelOutput, parse_output
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
    def test_by_index_or_name(self, given, index):
        assert_scores(given, LOGITS[:, index : index + 1])
        columns = as_target(given).evaluate(output())
        assert columns.classes.tolist() == [[index]] * 3
        assert columns.names == [[LABELS[index]]] * 3

    @pytest.mark.parametrize("given", [np.int64(2), torch.tensor(2), np.uint8(2)])
    def test_an_index_of_any_library_may_be_put_into_arithmetic(self, given):
        assert_scores(Class(given) - Class(0), LOGITS[:, 2:3] - LOGITS[:, :1])

    def test_a_label_goes_before_a_number(self):
        assert as_target("1").evaluate(output(labels=("3", "2", "1", "0"))).classes.tolist() == [[2]] * 3

    def test_a_model_without_labels(self):
        assert as_target(1).evaluate(output(labels=None)).names == [["class 1"]] * 3
        with pytest.raises(TargetError, match=r"no class 'boxer': this model has no labels. Give an index from 0 to 3"):
            as_target("boxer").evaluate(output(labels=None))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("bull mastif", r"no class 'bull mastif'; nearest: 'bull mastiff' \(2\)"),
            ("tigger cat", r"no class 'tigger cat'; nearest: .*'tabby, tiger cat' \(1\)"),
            ("zzzzz", r"no class 'zzzzz'; nearest: an index from 0 to 3"),
            ("tiger cat - boxer", r"nearest: .*A contrast is targets.Class"),
            ("7", "no class '7'"),
            (4, "no class 4: the model has 4 classes, 0 to 3"),
            (-5, "no class -5: the model has 4 classes, 0 to 3"),
        ],
    )
    def test_what_is_not_there_is_answered_with_what_is(self, given, message):
        with pytest.raises(TargetError, match=message):
            as_target(given).evaluate(output())

    @pytest.mark.parametrize("wrong", [1.5, None, True, (1,)])
    def test_a_class_is_an_index_or_a_label(self, wrong):
        with pytest.raises(TargetError, match="a class must be an index or a label, got"):
            Class(wrong).evaluate(output())

    def test_labels_of_another_model_are_noticed(self):
        with pytest.raises(TargetError, match="'fifth' is label 4 of 5, but the model gives only 4 classes"):
            Class("fifth").evaluate(output(labels=(*LABELS, "fifth")))


class TestTop:
    def test_none_is_every_samples_own_top_answer(self):
        columns = as_target(None).evaluate(output())
        assert columns.classes.tolist() == [[1], [2], [0]]
        assert columns.names == [["tabby, tiger cat"], ["bull mastiff"], ["Siamese cat"]]
        torch.testing.assert_close(columns.scores, torch.tensor([[3.0], [4.0], [9.0]]))

    def test_highest_first(self):
        assert Top(3).evaluate(output()).classes.tolist() == [[1, 0, 3], [2, 3, 0], [0, 3, 2]]

    @pytest.mark.parametrize("k", [0, -1, 5, 1.5, "two"])
    def test_no_more_than_there_are(self, k):
        with pytest.raises(
            TargetError, match=rf"number of top classes must be a whole number from 1 to 4, got {k!r}\.$"
        ):
            Top(k).evaluate(output())

    @pytest.mark.parametrize("k", [np.int64(2), np.array(2), torch.tensor(2)])
    def test_numpy_and_torch_k_equals_python_k(self, k):
        assert Top(k).evaluate(output()).classes.tolist() == Top(2).evaluate(output()).classes.tolist()


class TestEachSampleItsOwn:
    @pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int8, torch.uint8])
    def test_one_each(self, kind):
        assert_scores(torch.tensor([1, 0, 3], dtype=kind), [[3.0], [0.0], [3.0]])

    @pytest.mark.slow
    def test_several_each(self):
        assert_scores(torch.tensor([[1, 0], [0, 2], [3, 3]]), [[3.0, 1.0], [0.0, 4.0], [3.0, 3.0]])

    def test_numpy_arrays_are_tensors(self):
        assert_scores(np.array([1, 0, 3]), [[3.0], [0.0], [3.0]])

    def test_negative_counts_from_the_end_in_any_integer_type(self):
        columns = as_target(torch.tensor([-1, -4, 0], dtype=torch.int8)).evaluate(output())
        assert columns.classes.tolist() == [[3], [0], [0]]

    def test_small_integers_do_not_wrap_around_many_classes(self):
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
    def test_wrong_shapes_and_types_are_refused_and_nothing_is_dropped(self, wrong):
        with pytest.raises(TargetError, match=r"integers \[batch\] or \[batch, target\] for 3 samples, got torch\."):
            as_target(wrong).evaluate(output())

    @pytest.mark.parametrize("wrong", [4, -5])
    def test_a_class_that_is_not_there(self, wrong):
        with pytest.raises(TargetError, match=f"no class {wrong}: the model has 4 classes"):
            as_target(torch.tensor([0, wrong, 1])).evaluate(output())


class TestSeveral:
    def test_a_list_is_several_for_every_sample(self):
        assert_scores(["boxer", 0, -2], LOGITS[:, [3, 0, 2]])
        assert as_target(["boxer", 0]) == TargetList((Class("boxer"), Class(0)))

    def test_anything_may_be_in_it(self):
        given = [Class(1) - Class(0), None, torch.tensor([3, 2, 1]), lambda out: out.sum(1), [0, 1]]
        columns = as_target(given).evaluate(output())
        wanted = [LOGITS[:, 1] - LOGITS[:, 0], LOGITS.amax(1), LOGITS[range(3), [3, 2, 1]], LOGITS.sum(1)]
        torch.testing.assert_close(columns.scores, torch.stack([*wanted, LOGITS[:, 0], LOGITS[:, 1]], 1))
        assert columns.classes.tolist() == [[-1, 1, 3, -1, 0, 1], [-1, 2, 2, -1, 0, 1], [-1, 0, 1, -1, 0, 1]]

    def test_an_empty_list_explains_nothing(self):
        with pytest.raises(TargetError, match="expected at least one target, got an empty list"):
            as_target([])


class TestArithmetic:
    def test_contrast(self):
        for target in (Class("boxer") - Class(0), contrast("boxer", 0), contrast(Class("boxer"), Class(0))):
            assert_scores(target, LOGITS[:, 3:] - LOGITS[:, :1])
            assert target.evaluate(output()).names == [["boxer - Siamese cat"]] * 3
            assert target.evaluate(output()).classes.tolist() == [[-1]] * 3

    def test_counterfactual(self):
        for target in (-Class(2), counterfactual(2), counterfactual("bull mastiff"), Class(2) * -1):
            assert_scores(target, -LOGITS[:, 2:3])
            assert target.evaluate(output()).names == [["-bull mastiff"]] * 3

    def test_weighted_sums(self):
        target = 2 * Class(0) + Class(1) * 0.5 - (Class(2) - Class(3))
        assert_scores(target, (2 * LOGITS[:, 0] + 0.5 * LOGITS[:, 1] - LOGITS[:, 2] + LOGITS[:, 3])[:, None])
        assert target.evaluate(output()).names[0] == ["2 Siamese cat + 0.5 tabby, tiger cat - bull mastiff + boxer"]

    def test_twice_turned_is_as_it_was(self):
        turned = -Class(1)
        assert_scores(-turned, LOGITS[:, 1:2])

    def test_one_number_is_taken_from_each_of_several(self):
        target = Top(2) - Class(0)
        wanted = LOGITS.topk(2, 1).values - LOGITS[:, :1]
        assert_scores(target, wanted)
        assert target.evaluate(output()).names[0] == ["tabby, tiger cat - Siamese cat", "Siamese cat - Siamese cat"]

    def test_functions_add_up_too(self):
        target = Function(lambda out: out.amax(1), "the most") - Class(0)
        assert_scores(target, LOGITS.amax(1, keepdim=True) - LOGITS[:, :1])
        assert target.evaluate(output()).names[0] == ["the most - Siamese cat"]

    def test_sums_of_different_lengths_are_refused(self):
        with pytest.raises(TargetError, match="equal numbers of scores a sample, or 1; got 2 and 3"):
            (Top(2) - Top(3)).evaluate(output())

    @pytest.mark.parametrize("wrong", ["boxer", 3, None])
    @pytest.mark.parametrize("how", [operator.add, operator.sub])
    def test_only_targets_are_added(self, wrong, how):
        with pytest.raises(TypeError, match="unsupported operand"):
            how(Class(0), wrong)

    def test_only_numbers_scale(self):
        with pytest.raises(TypeError):
            Class(0) * Class(1)


class TestFunctions:
    def test_get_whatever_the_model_returned(self):
        assert_scores(lambda out: out["deep"][0], [[1.0], [2.0], [3.0]], raw={"deep": [torch.tensor([1.0, 2, 3])]})

    def test_one_column_is_one_number(self):
        assert_scores(lambda out: out[:, 1:2], LOGITS[:, 1:2])

    def test_names(self):
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
    def test_wrong_results_are_refused_with_what_came(self, function, came):
        with pytest.raises(TargetError, match=rf"one floating-point number a sample, \[3\], got {came}"):
            as_target(function).evaluate(output())

    def test_what_a_function_raises_arrives_as_it_is(self, tiny, images):
        def broken(out: Tensor) -> Tensor:
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            explain(tiny(), images(), broken, layer="features")

    def test_one_that_does_not_depend_on_the_model_is_refused(self, tiny, images):
        with pytest.raises(GradientError, match="no gradient with respect to the layer"):
            explain(tiny(), images(), lambda out: out[:, 0].detach(), layer="features")


@pytest.mark.parametrize(
    "wrong", [2.0, np.float64(2), {"boxer": 1}, {1, 2}, object(), torch.tensor(2.7), True, torch.tensor(True) * 1.0]
)
def test_what_is_no_target_is_refused(wrong):
    with pytest.raises(TargetError, match=r"a target must be|a class must be"):
        as_target(wrong)


def test_a_target_is_itself():
    target = Class(1)
    assert as_target(target) is target
    assert isinstance(target, Target)


class TestScores:
    def test_one_of_many(self):
        assert_scores(Class(1, "logit"), LOGITS[:, 1:2])
        assert_scores(Class(1, "probability"), LOGITS.softmax(1)[:, 1:2])
        assert_scores(Class(1, "log-probability"), LOGITS.log_softmax(1)[:, 1:2])

    def test_each_a_yes_or_no(self):
        assert_scores(Class(1, "probability"), LOGITS.sigmoid()[:, 1:2], multilabel=True)
        assert_scores(Class(1, "log-probability"), LOGITS.sigmoid().log()[:, 1:2], multilabel=True)

    def test_one_number_is_a_yes_or_no(self):
        one = LOGITS[:, :1]
        assert_scores(Class(0, "probability"), one.sigmoid(), logits=one, labels=("defect",))
        assert_scores(Class(0, "log-probability"), one.sigmoid().log(), logits=one, labels=None)

    def test_that_of_the_call_unless_the_target_says_otherwise(self):
        assert_scores([Class(1), Class(1, "logit")], torch.stack([LOGITS.softmax(1)[:, 1], LOGITS[:, 1]], 1),
                      score="probability")  # fmt: skip
        assert_scores(None, LOGITS.softmax(1).amax(1, keepdim=True), score="probability")
        assert_scores(torch.tensor([0, 0, 0]), LOGITS.log_softmax(1)[:, :1], score="log-probability")

    def test_far_from_zero_they_are_numbers(self):
        far = torch.tensor([[200.0, -200.0]])
        assert_scores(Class(1, "log-probability"), [[-400.0]], logits=far)
        assert_scores(Class(1, "log-probability"), [[-200.0]], logits=far, multilabel=True)

    def test_unknown_ones_are_refused(self):
        with pytest.raises(TargetError, match="score must be logit, probability or log-probability, got 'odds'"):
            Class(1, "odds").evaluate(output())

    @pytest.mark.parametrize("score", ["logit", "probability", "log-probability"])
    def test_reach_the_maps(self, tiny, images, score):
        """The gradient of the probability is that of the logit times p (1 - p), for a yes or no."""
        model, batch = saywhy.load(tiny(), multilabel=True), images()
        logit = explain(model, batch, 1, layer="features", relu=False)
        found = explain(model, batch, 1, layer="features", relu=False, score=score)
        p = logit.scores.sigmoid()
        slope = {"logit": torch.ones_like(p), "probability": p * (1 - p), "log-probability": 1 - p}[score]
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

    def test_one_number_a_sample_is_one_class(self):
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
    def test_a_path_leads_to_others(self, output, path):
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
    def test_a_path_that_leads_nowhere_says_what_there_is(self, output, path, message):
        with pytest.raises(TargetError, match=message):
            parse_output(output, 3, path)

    @pytest.mark.parametrize("target", [None, 1, "boxer", torch.tensor([0, 1, 2]), Class(0) - Class(1), Top(2)])
    def test_where_there_are_none_it_is_said_what_to_do(self, target):
        segmentation = parse_output({"out": torch.zeros(3, 21, 8, 8)}, 3)
        with pytest.raises(TargetError, match=r"output \(\[3, 21, 8, 8\]\) has no class scores .* target function"):
            as_target(target).evaluate(segmentation)

    def test_where_there_are_none_functions_work(self):
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


class TestThroughTheFrontDoor:
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
    def test_outputs(self, tiny, images, plain, wrap, path):
        model = Wrapped(tiny(), wrap)
        found = explain(model, images(3), 1, layer="network.features", output=path, relu=False)
        torch.testing.assert_close(found.maps, plain)
        loaded = saywhy.load(model, output=path)
        again = explain(loaded, images(3), 1, layer="network.features", relu=False)
        torch.testing.assert_close(again.maps, plain)

    @pytest.mark.parametrize("how", ["tuple", "keywords", "one dict"])
    def test_several_inputs(self, tiny, images, plain, how):
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

    def test_labels_targets_and_probabilities_arrive(self, tiny, images):
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

    def test_a_label_that_is_not_there(self, tiny, images):
        with pytest.raises(TargetError, match=r"no class 'boxxer'; nearest: 'boxer' \(3\)"):
            explain(saywhy.load(tiny(), labels=LABELS), images(), "boxxer", layer="features")

    @pytest.mark.parametrize("wrong", [torch.tensor([1]), torch.tensor([1, 2, 3])])
    def test_a_tensor_of_another_length_is_refused(self, tiny, images, wrong):
        with pytest.raises(TargetError, match="for 2 samples"):
            explain(tiny(), images(2), wrong, layer="features")

    def test_each_sample_its_own_is_each_sample_alone(self, tiny, images):
        network, batch, classes = tiny(), images(3), torch.tensor([[2, 0], [1, 1], [0, 3]])
        found = explain(network, batch, classes, layer="features", relu=False)
        for b in range(3):
            for t in range(2):
                alone = explain(network, batch[b : b + 1], int(classes[b, t]), layer="features", relu=False)
                torch.testing.assert_close(found.maps[b : b + 1, t : t + 1], alone.maps, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("size", [1, 2])
    def test_each_sample_its_own_in_batches(self, tiny, images, size):
        network, batch, classes = tiny(), images(3), torch.tensor([[2, 0], [1, 1], [0, 3]])
        whole = explain(network, batch, classes, layer="features", relu=False)
        split = explain(network, batch, classes, layer="features", relu=False, batch_size=size)
        assert split.targets == whole.targets
        torch.testing.assert_close(split.maps, whole.maps)

    def test_a_one_logit_model_is_explained_as_it_is(self, images):
        network = TinyNetwork.build(classes=1)
        found = explain(network, images(), None, layer="features", relu=False)
        assert found.classes.tolist() == [[0], [0]]
        torch.testing.assert_close(found.probabilities, found.scores.sigmoid())


def test_a_name_that_two_classes_share_is_not_guessed():
    output = ModelOutput(torch.zeros(1, 3), labels=["crane", "duck", "crane"])
    with pytest.raises(TargetError, match=r"2 classes are called 'crane': 0 \('crane'\), 2 \('crane'\)"):
        Class("crane").evaluate(output)
