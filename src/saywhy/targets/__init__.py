"""What is to be explained: one number a sample, made from the model's output.

Targets add, subtract and scale: ``Class("tiger cat") - Class("boxer")`` asks why this rather than that, and
``-Class("boxer")`` asks what speaks against it (the counterfactual of the Grad-CAM paper, section 3.3). The same
expressions work in Python, on the command line and in provenance.
"""

from saywhy.targets.finer import Finer, finer
from saywhy.targets.parse import as_target, contrast, counterfactual
from saywhy.targets.sentence import Sentence, Words
from saywhy.targets.target import Chosen, Class, Columns, Function, Several, Sum, Target, Top
from saywhy.targets.uncertainty import Certainty, Uncertain

__all__ = [
    "Certainty",
    "Chosen",
    "Class",
    "Columns",
    "Finer",
    "Function",
    "Sentence",
    "Several",
    "Sum",
    "Target",
    "Top",
    "Uncertain",
    "Words",
    "as_target",
    "contrast",
    "counterfactual",
    "finer",
]
