"""The result of an explanation: plain data that knows nothing of models, hooks, files or pages."""

from saywhy.explanation.explainer import Explainer
from saywhy.explanation.metadata import Metadata
from saywhy.explanation.result import Explanation

__all__ = ["Explainer", "Explanation", "Metadata"]
