"""A model from a Python file of the user's own: ``path/to/file.py:function``."""

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saywhy.errors import ModelError, nearest
from saywhy.models.model import Model, labels_of
from saywhy.models.preprocess import Preprocess, as_preprocess
from saywhy.models.weights import load_weights


def load_file(path: str, function: str, weights: Any = None) -> Model:
    """Load a network that a function of the user's file builds; the file is executed, as by ``python file.py``.

    The function takes no arguments and returns an ``nn.Module`` or a :class:`~saywhy.models.model.Model`. The file may
    also define ``labels``, ``preprocess``, ``input_size``, ``mean``, ``std``, ``multilabel`` and ``texts`` (how text
    arguments are encoded, see :class:`~saywhy.models.model.Model`). By default images keep their size if the shorter
    side is at most 256 pixels (else they are resized and cropped to 224), and are normalised with the mean and standard
    deviation of ImageNet.

    Args:
        path: the path of the file.
        function: the name of its function; "" takes the only one that the file defines.
        weights: a weights file; None and ``"random"`` leave the network as the function built it.

    Raises:
        ModelError: the file or the function is missing or fails, or returns no network.
        WeightsError: the weights cannot be read or do not fit.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"there is no file '{path}'.")
    namespace = _execute(file)
    build = _function(namespace, file, function)
    try:
        with _importing_from(file.parent):
            built = build()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{file.name}:{build.__name__} failed: {type(error).__name__}: {error}. It must take no "
            "arguments and return a network."
        ) from error
    if isinstance(built, Model):
        model = built
    elif isinstance(built, nn.Module):
        model = Model(
            built,
            f"{file.name}:{build.__name__}",
            labels=_labels(namespace, built),
            preprocess=_preprocess(namespace),
        )
        model.multilabel = bool(getattr(namespace, "multilabel", False))
        model.texts = dict(getattr(namespace, "texts", {}))
    else:
        raise ModelError(
            f"{file.name}:{build.__name__} must return an nn.Module or a saywhy.Model, got {type(built).__name__}."
        )
    if weights not in (None, "random"):
        load_weights(model.module, weights)
    model.module.eval()
    return model


def _execute(file: Path) -> ModuleType:
    name = f"saywhy_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"'{file}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module by name
    try:
        with _importing_from(file.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"'{file}' fails when it is run: {type(error).__name__}: {error}") from error
    return module


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Put the file's folder on the import path, as ``python file.py`` does."""
    path = str(folder.resolve())
    sys.path.insert(0, path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file took it out itself
            sys.path.remove(path)


def _function(namespace: ModuleType, file: Path, name: str) -> Any:
    own = {
        n: f
        for n, f in vars(namespace).items()
        if callable(f) and getattr(f, "__module__", None) == namespace.__name__ and not n.startswith("_")
    }
    if name:
        if callable(getattr(namespace, name, None)):
            return getattr(namespace, name)
        likely = nearest(name, own) or list(own)
        raise ModelError(f"'{file}' has no function '{name}'. It has: {', '.join(likely) or 'none'}.")
    plain = [f for n, f in own.items() if inspect.isfunction(f) and n != "preprocess"]
    if len(plain) != 1:
        raise ModelError(
            f"'{file}' defines {len(plain)} functions: choose one, as {file.name}:NAME ({', '.join(own)})."
        )
    return plain[0]


def _labels(namespace: ModuleType, module: nn.Module) -> Any:
    return getattr(namespace, "labels", None) or labels_of(module)


def _preprocess(namespace: ModuleType) -> Any:
    if hasattr(namespace, "preprocess"):
        return as_preprocess(namespace.preprocess)
    settings: dict[str, Any] = {n: tuple(getattr(namespace, n)) for n in ("mean", "std") if hasattr(namespace, n)}
    if not hasattr(namespace, "input_size"):
        return Preprocess(largest=256, **settings)
    size = namespace.input_size
    height, width = (size, size) if isinstance(size, int) else size
    return Preprocess(resize=height if height == width else (height, width), crop=(height, width), **settings)
