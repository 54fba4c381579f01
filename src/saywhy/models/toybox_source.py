"""The small models of our own that ship inside the package."""

from importlib.resources import as_file, files
from typing import Any

from saywhy.errors import ModelError, nearest
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.weights import load_weights

NAMES = ("classifier",)


def load(name: str, weights: Any = None) -> Model:
    """A Toybox model: ``classifier`` says which kinds of things are in a picture, several at once.

    Raises:
        ModelError: there is no such model.
        WeightsError: the given weights cannot be read or do not fit.
    """
    if name not in NAMES:
        likely = nearest(name, NAMES) or list(NAMES)
        raise ModelError(f"there is no Toybox model '{name}'. Nearest: 'toybox:{likely[0]}'.")
    from saywhy.data.toybox import KINDS
    from saywhy.models.toybox import MEAN, SIZE, STD, ToyboxClassifier

    module = ToyboxClassifier()
    if weights is None:
        with as_file(files("saywhy.models") / "shipped" / "toybox-classifier.safetensors") as path:
            load_weights(module, path)
    elif weights != "random":
        load_weights(module, weights)
    preprocess = Preprocess(resize=SIZE, crop=(SIZE, SIZE), mean=MEAN, std=STD)
    return Model(module.eval(), "toybox:classifier", preprocess, tuple(KINDS), multilabel=True)
