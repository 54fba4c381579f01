"""Language for Toybox: questions with answers and evidence, grounded captions, and simulated annotators."""

from saywhy.toybox.language.annotators import annotations, human_attention
from saywhy.toybox.language.caption import SceneCaption, captions
from saywhy.toybox.language.question import ANSWERS, TYPES, SceneQuestion
from saywhy.toybox.language.scene_questions import questions

__all__ = [
    "ANSWERS",
    "TYPES",
    "SceneCaption",
    "SceneQuestion",
    "annotations",
    "captions",
    "human_attention",
    "questions",
]
