"""Methods: pure functions of activations and gradients, which take tensors and no models.

A method takes ``activations`` and ``gradients`` [batch, channel, *space] and returns attribution maps [batch, *space];
``*space`` is one axis for a signal, two for an image, three for a volume. The decorator :func:`method` registers the
function below it with its paper, its equation and the meaning of its values. Every file of this folder is imported.
"""

from importlib import import_module
from pkgutil import iter_modules

from saywhy.methods.channel import cam, gradcam, gradcam_pp, xgradcam
from saywhy.methods.eigen import eigencam, eigengradcam
from saywhy.methods.elementwise import gradcam_elementwise, hirescam, layercam
from saywhy.methods.fusion import fuse
from saywhy.methods.method import AttributionResult, Method
from saywhy.methods.registry import METHODS, all_methods, find_method, method, register

for _file in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")  # its methods register themselves
METHODS.sort(lambda each: each.order)

__all__ = [
    "METHODS",
    "AttributionResult",
    "Method",
    "all_methods",
    "cam",
    "eigencam",
    "eigengradcam",
    "find_method",
    "fuse",
    "gradcam",
    "gradcam_elementwise",
    "gradcam_pp",
    "hirescam",
    "layercam",
    "method",
    "register",
    "xgradcam",
]
