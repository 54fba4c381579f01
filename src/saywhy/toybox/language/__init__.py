"""Toybox in words: questions with their answers and evidence, captions with what they speak of, and people who look."""

from saywhy.toybox.language.caption import SceneCaption, captions
from saywhy.toybox.language.people import annotations, human_attention
from saywhy.toybox.language.question import ANSWERS, TYPES, SceneQuestion
from saywhy.toybox.language.quiz import questions

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
