"""The methods of the registry, by what they need."""

from saywhy.methods import METHODS

ONE_PASS = {name: method for name, method in METHODS.items() if method.passes == "one"}
"""Functions of activations and gradients, of a layer or of the image itself."""

ATTENTION = [name for name, method in METHODS.items() if method.function.__module__ == "saywhy.methods.attention"]
"""Methods that need a network with attention."""

LINEAR = ("cam", "excitation-backprop", "contrastive-excitation-backprop", "lrp")
"""The methods that are defined for networks of ReLUs and weighted sums alone, up to the scores."""

HEADS = {**dict.fromkeys(LINEAR, "linear"), **dict.fromkeys(ATTENTION, "attention"), "model-attention": "looking"}
"""The form of network that a method needs, for those that are defined for one only."""
