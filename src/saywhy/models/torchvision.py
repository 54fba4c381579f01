"""Classifiers of torchvision, with their labels and preprocessing."""

import urllib.error
from functools import partial
from typing import Any

from saywhy.errors import ModelError, WeightsError, nearest
from saywhy.models.head import with_head_of
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.registry import source
from saywhy.models.weights import read_weights
from saywhy.quiet import ignored_warnings


@source("torchvision", reading="classifiers of torchvision, by their names there")
def load(name: str, weights: Any = None) -> Model:
    """Load a torchvision classifier by its name, e.g. ``resnet50``.

    Raises:
        ModelError: torchvision has no classifier of this name.
        WeightsError: the weights cannot be downloaded, read, or do not fit.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        likely = ", ".join(f"'torchvision:{n}'" for n in nearest(name, names)) or "see torchvision.models.list_models()"
        raise ModelError(f"torchvision has no classifier '{name}'. Nearest: {likely}.")
    release: Any = models.get_model_weights(name)
    preset = release.DEFAULT if len(release) else None
    with ignored_warnings(FutureWarning):  # GoogLeNet and Inception announce another initialisation
        module, other = (_download(name, preset), False) if weights is None else _from_file(name, weights)
    labels = tuple(preset.meta["categories"]) if preset is not None and not other else None
    return Model(module.eval(), f"torchvision:{name}", _preprocess(preset), labels)


def _download(name: str, preset: Any) -> Any:
    from torchvision import models

    if preset is None:
        raise WeightsError(f"torchvision has no weights for '{name}'. Give weights='FILE' or weights='random'.")
    try:
        return models.get_model(name, weights=preset)
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"the weights of torchvision:{name} could not be downloaded ({error}). Download {preset.url} on a machine "
            "with a network and give its path as weights=, or weights='random' for a network that was never trained."
        ) from error


def _from_file(name: str, weights: Any) -> tuple[Any, bool]:
    """The architecture with the weights of a file, or with random ones, configured as for torchvision's own weights.

    The head has as many classes as that of the file; also returned is whether it is another one than torchvision's.
    """
    from torchvision import models

    settings: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Both were trained with another normalisation, and undo ImageNet's normalisation first.
        state = read_weights(weights) if weights != "random" else {}
        auxiliary = any(key.removeprefix("module.").startswith(("aux", "Aux")) for key in state)
        settings = {"init_weights": False, "transform_input": True, "aux_logits": auxiliary}
    build = partial(models.get_model, name, weights=None, **settings)
    return (build(), False) if weights == "random" else with_head_of(build, weights)


def _preprocess(preset: Any) -> Preprocess:
    if preset is None:
        return Preprocess()
    preset = preset.transforms()
    return Preprocess(
        resize=preset.resize_size[0],
        crop=(preset.crop_size[0], preset.crop_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
