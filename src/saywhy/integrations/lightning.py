"""A callback of Lightning that explains the same images again and again during training."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from saywhy.errors import InputError, MissingExtra, SaywhyError, SaywhyWarning
from saywhy.explain import explain
from saywhy.integrations.loggers import log_maps, loggers_of
from saywhy.models import Model, load
from saywhy.validation import whole_number

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:  # said when a callback is made
        Callback = None


class ExplainCallback(Callback or object):  # type: ignore[misc]
    """Explains some images after every validation epoch, and logs the maps.

    See :func:`saywhy.integrations.loggers.log_maps` for the loggers and the names of the maps.

    The network, its mode and its gradients stay as they are. A map that cannot be computed warns, and training goes on.

    Args:
        images: what is watched: a tensor [batch, channel, height, width], or images for a ``saywhy.Model``.
        target: as for :func:`saywhy.explain`; None is each image's own top class.
        method: as for :func:`saywhy.explain`.
        every: epochs between two explanations.
        name: the first part of the names in the logger.
        network: what is explained: a function from the Lightning module to a network or a ``saywhy.Model``; the module
            itself by default.
        options: further arguments of :func:`saywhy.explain`.

    Raises:
        MissingExtra: Lightning is not installed.
    """

    def __init__(
        self,
        images: Any,
        target: Any = None,
        method: str = "gradcam",
        *,
        every: int = 1,
        name: str = "why",
        network: Callable[[Any], nn.Module | Model] | None = None,
        **options: Any,
    ) -> None:
        if Callback is None:
            raise MissingExtra(
                "the callback needs Lightning, which is not installed. Install it: pip install lightning"
            )
        super().__init__()
        self._asked = {"target": target, "method": method, **options}
        self._images, self._name = images, name
        self._every = whole_number("every", every, low=1)
        self._network = network or (lambda module: module)
        if not callable(self._network):
            raise InputError("network must be a function from the Lightning module to a network.")

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Explain and log, in the first process only."""
        if trainer.sanity_checking or trainer.global_rank != 0 or trainer.current_epoch % self._every:
            return
        try:
            model = load(self._network(pl_module))
            found = explain(model, self._images, keep_model=False, **self._asked)
        except SaywhyError as error:
            warnings.warn(f"no maps of epoch {trainer.current_epoch}: {error}", SaywhyWarning, stacklevel=2)
            return
        log_maps(found, loggers_of(trainer), step=trainer.global_step, name=self._name)
