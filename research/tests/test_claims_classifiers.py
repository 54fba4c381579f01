"""The classifiers of the experiments: the shipped one, retrained ones, and heads with hidden layers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from safetensors import safe_open

import saywhy
from research.claims import classifiers, section
from research.claims.classifiers import Classifier, MLPClassifier, classifier, head_features, mlp_classifier
from research.claims.study import FORMS, items, named_study, supported_methods, toybox_study
from research.tests.synthetic import COLOURS, SquaresDataset, colour_network, study
from saywhy.errors import InputError
from saywhy.toybox import KINDS, scene
from saywhy.toybox.localized import ToyboxDataset
from saywhy.toybox.models.classifier import ToyboxClassifier, normalised
from saywhy.training.loop import Phase

pytestmark = pytest.mark.nightly


@pytest.fixture
def quiet() -> Progress:
    return Progress(disable=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Store networks in a temporary folder, and train them for few steps."""
    monkeypatch.setattr(classifiers, "FOLDER", tmp_path)
    monkeypatch.setattr(classifiers, "SCENES", 64)
    monkeypatch.setattr(classifiers, "TESTS", 20)
    monkeypatch.setattr(classifiers, "PHASES", (Phase(1, 32),))
    monkeypatch.setattr(classifiers, "HEAD_SCENES", 64)
    monkeypatch.setattr(classifiers, "HEAD_STEPS", 30)
    return tmp_path


def test_seed_0_is_the_classifier_that_ships(quiet):
    found = classifier(0, quiet)
    assert (found.seed, found.form) == (0, "gap")
    assert found.model.digest() == saywhy.load("toybox:classifier").digest()


def test_a_head_is_trained_once_and_the_trunk_stays_as_it_is(small, quiet):
    pytest.importorskip("lightning_fabric", reason="recipes need the extra train")
    first, again = mlp_classifier(0, quiet), mlp_classifier(0, quiet)
    assert [file.name for file in small.iterdir()] == ["toybox-mlp-0.safetensors"]
    assert first.model.digest() == again.model.digest()
    assert (first.form, first.model.labels, first.model.multilabel) == ("mlp", KINDS, True)
    trunk, shipped = first.model.module.state_dict(), saywhy.load("toybox:classifier").module.state_dict()
    for name, tensor in shipped.items():
        if not name.startswith("head"):
            assert torch.equal(trunk[name], tensor), name
    with safe_open(small / "toybox-mlp-0.safetensors", "pt") as opened:
        assert opened.metadata()["steps"] == "30"


def test_training_a_head_reduces_its_loss(small, quiet):
    pytest.importorskip("lightning_fabric", reason="recipes need the extra train")
    trunk = saywhy.load("toybox:classifier").module
    features, labels = head_features(MLPClassifier(trunk).eval(), 64, quiet)

    @torch.no_grad()
    def loss(module: torch.nn.Module) -> float:
        logits = module.head(features)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, labels))

    trained = mlp_classifier(0, quiet).model.module
    torch.manual_seed(0)
    fresh = MLPClassifier(trunk).eval()
    torch.nn.init.constant_(fresh.head[-1].bias, -2.2)
    assert loss(trained) < 0.8 * loss(fresh)


def test_head_features_reproduce_the_network_output(quiet):
    network = MLPClassifier(saywhy.load("toybox:classifier").module).eval()
    features, labels = head_features(network, 3, quiet)
    drawn = [scene("train", 12_000 + number) for number in range(3)]
    images = torch.stack([torch.from_numpy(one.image.transpose(2, 0, 1).copy()) for one in drawn]).float() / 255
    assert torch.allclose(network.head(features), network(normalised(images)), atol=1e-5)
    assert labels.tolist() == [one.labels.tolist() for one in drawn]


def test_cam_cannot_explain_hidden_layers_and_grad_cam_can():
    network = Classifier(0, saywhy.load(MLPClassifier(ToyboxClassifier()).eval()), "mlp")
    network.model.preprocess = saywhy.load("toybox:classifier").preprocess
    image = Image.fromarray(scene("val", 0).image)
    methods = ["gradcam", "cam", "contrastive-excitation-backprop", "guided-gradcam"]
    assert supported_methods(network, image, methods) == [
        "gradcam",
        "contrastive-excitation-backprop",
        "guided-gradcam",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No positive samples")  # so few scenes do not show every kind
def test_another_seed_is_trained_by_the_recipe(small, quiet):
    pytest.importorskip("lightning_fabric", reason="recipes need the extra train")
    pytest.importorskip("torchmetrics")
    found = classifier(1, quiet)
    assert found.seed == 1
    assert sorted(file.name for file in small.iterdir()) == [
        "toybox-classifier-1.csv",
        "toybox-classifier-1.safetensors",
    ]
    assert found.model.digest() != saywhy.load("toybox:classifier").digest()
    assert classifier(1, quiet).model.digest() == found.model.digest()
    assert mlp_classifier(1, quiet).seed == 1
    two = toybox_study(quiet, seeds=2)
    assert [(one.form, one.seed) for one in two.networks] == [("gap", 0), ("gap", 1), ("mlp", 0), ("mlp", 1)]


def test_items_have_the_known_classes_and_their_positions():
    network = Classifier(0, saywhy.load("toybox:classifier", "random"))
    for item in items(network, ToyboxDataset("val"), range(6)):
        drawn = scene("val", item.place[1])
        assert np.array_equal(np.asarray(item.image), drawn.image)
        for number, kind in enumerate(item.classes):
            there = [obj for obj in drawn.objects if obj.kind == KINDS[kind]]
            assert np.array_equal(item.masks()[0, number].numpy(), np.logical_or.reduce([one.mask for one in there]))
            assert item.boxes[0][number] == [tuple(map(float, one.box)) for one in there]
        absent = next(kind for kind in range(len(KINDS)) if kind not in item.classes)
        assert not item.masks([absent]).any()


def test_items_select_images_of_one_or_several_classes():
    network, squares = colour_network(), SquaresDataset(8)
    numbers = [[item.place[1] for item in items(network, squares, range(8), alone)] for alone in (True, False, None)]
    assert numbers == [[0, 2, 4, 6], [1, 3, 5, 7], list(range(8))]


def test_items_leave_out_unknown_classes():
    squares = SquaresDataset(20)
    few = colour_network()
    few.model.labels = COLOURS[:2] + tuple(f"other {number}" for number in range(7))
    for item in items(few, squares, range(20)):
        assert all(COLOURS[known] in item.located.labels for known in item.classes)
        assert set(item.classes) <= {0, 1}


def test_study_gives_seeds_different_images():
    two = study(
        colour_network(), colour_network("mlp"), colour_network(seed=1), colour_network("mlp", seed=1), count=10
    )
    places = {(n.seed, n.form): [item.place for item in two.items(n)] for n in two.networks}
    assert places[0, "gap"] == places[0, "mlp"] == [(0, index) for index in range(5)]
    assert places[1, "gap"] == places[1, "mlp"] == [(1, index) for index in range(5, 10)]
    assert two.forms == ("gap", "mlp")


def test_named_study_without_held_out_images_raises():
    one = named_study("toybox:classifier", "toybox:val")
    assert (one.networks[0].form, one.tolerance, one.held_out) == ("toybox:classifier", 15, None)
    with pytest.raises(InputError, match="expected a held-out data set"):
        next(one.items(one.networks[0], held_out=True))
    assert named_study("toybox:classifier", "toybox:test", "toybox:val").held_out is not None


def test_section_run_prints_or_writes_the_page(tmp_path, capsys):
    section.run(lambda progress: "## one", None)
    assert capsys.readouterr().out == "## one\n"
    section.run(lambda progress: "## two", tmp_path / "two.md")
    assert (tmp_path / "two.md").read_text() == "## two\n"


def test_toybox_study_gives_seeds_different_scenes(monkeypatch, quiet):
    for form in ("gap", "mlp"):
        monkeypatch.setitem(FORMS, form, lambda seed, progress, form=form: colour_network(form, seed))
    three = toybox_study(quiet)
    assert [(one.form, one.seed) for one in three.networks] == [(f, s) for f in ("gap", "mlp") for s in range(3)]
    for network in three.networks:
        network.model.labels = KINDS[:9]
        assert next(three.items(network)).place[1] // 10_000 == 1 + network.seed
    assert next(three.items(three.networks[0], held_out=True)).located.name.startswith("val/1000")
