"""The class scores in a model's return value: where they are, and on which scale."""

from saywhy.output.find import known_classes, parse_output
from saywhy.output.scale import OutputScale, ScoreKind, ShownScore, scale_of, shown_score
from saywhy.output.scores import ModelOutput, NoClassScores, log_odds

__all__ = [
    "ModelOutput",
    "NoClassScores",
    "OutputScale",
    "ScoreKind",
    "ShownScore",
    "known_classes",
    "log_odds",
    "parse_output",
    "scale_of",
    "shown_score",
]
