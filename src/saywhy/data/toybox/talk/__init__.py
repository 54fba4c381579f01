"""Toybox in words: questions with their answers and evidence, captions with what they speak of, and people who look."""

from saywhy.data.toybox.talk.caption import Caption, captions
from saywhy.data.toybox.talk.people import annotations, human_attention
from saywhy.data.toybox.talk.question import ANSWERS, TYPES, Question
from saywhy.data.toybox.talk.quiz import questions

__all__ = ["ANSWERS", "TYPES", "Caption", "Question", "annotations", "captions", "human_attention", "questions"]
