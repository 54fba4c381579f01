"""Language for Toybox: questions with answers and evidence, grounded captions, and simulated annotators."""

from saywhy.toybox.language.annotators import annotations, human_attention
from saywhy.toybox.language.caption import SceneCaption, captions
from saywhy.toybox.language.question import ANSWERS, TYPES, SceneQuestion
from saywhy.toybox.language.question_truth import QuestionTruth, question_truth
from saywhy.toybox.language.scene_questions import asked, questions

__all__ = [
    "ANSWERS",
    "TYPES",
    "QuestionTruth",
    "SceneCaption",
    "SceneQuestion",
    "annotations",
    "asked",
    "captions",
    "human_attention",
    "question_truth",
    "questions",
]
