"""The result of an explanation: plain data, independent of models, hooks, files and views."""

from saywhy.explanation.explainer import Explainer
from saywhy.explanation.metadata import Metadata
from saywhy.explanation.result import Explanation

__all__ = ["Explainer", "Explanation", "Metadata"]
