"""``saywhy train``: the recipe gets the options; recipes themselves are tested in tests/training."""

from importlib import import_module

import pytest

from saywhy.cli.train import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_train_passes_options_to_the_recipe(run, name, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(import_module(RECIPES[name]), "main", lambda **settings: given.update(settings))
    ran = run("train", name, "-o", tmp_path / "w.safetensors", "--seed", 7, "--scenes", 99)
    assert ran.code == 0, ran.err
    assert given == {
        "out": tmp_path / "w.safetensors",
        "seed": 7,
        "threads": 2,
        "scenes": 99,
        "accelerator": "cpu",
        "devices": 1,
    }


def test_train_of_unknown_recipe_fails(run):
    ran = run("train", "toybox:vqaa")
    assert ran.code == 1
    assert "no recipe for 'toybox:vqaa'. Expected one of toybox:classifier, toybox:vqa" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-o", "w.checkpoint"), "Use w.safetensors"),
        (("-o", "w.csv"), "expected a .safetensors file for weights"),
        (("--accelerator", "quantum"), "accelerator 'quantum' are not available"),
    ],
)
def test_train_with_invalid_options_fails_before_drawing_data(run, words, says):
    pytest.importorskip("lightning_fabric", reason="recipes need the extra train")
    ran = run("train", "toybox:classifier", "--scenes", 10**9, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_train_with_too_large_seed_is_exit_code_2(run):
    assert run("train", "toybox:vqa", "--seed", 10**30).code == 2
