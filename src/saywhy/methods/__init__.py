"""Methods: pure functions of activations and gradients. They know tensors and nothing of models.

Every one takes ``activations`` and ``gradients`` [batch, channel, *space] and gives maps [batch, *space]; ``*space`` is
one axis for a signal, two for an image, three for a volume. ``registry`` names them all, with paper and equation.
"""

from saywhy.methods.catalogue import METHODS
from saywhy.methods.channel import cam, gradcam, gradcam_pp, xgradcam
from saywhy.methods.eigen import eigencam, eigengradcam
from saywhy.methods.elementwise import gradcam_elementwise, hirescam, layercam
from saywhy.methods.fusion import fuse
from saywhy.methods.method import AttributionResult, Method
from saywhy.methods.registry import all_methods, find_method, register

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
    "register",
    "xgradcam",
]
