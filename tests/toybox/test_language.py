"""Language for Toybox: every answer agrees with an oracle that reads the question's text, and every caption is true."""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from saywhy.toybox import COLOURS, KINDS, Scene, SceneObject, scene
from saywhy.toybox.language import ANSWERS, TYPES, annotations, captions, human_attention, questions
from saywhy.toybox.language.caption import COUNTED, WHERE
from saywhy.toybox.language.mentions import mentions
from saywhy.toybox.language.question import plural

MANY = 250


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene("talk-test", index, 64) for index in range(MANY)]


def meant(drawn: Scene, noun: str) -> list[SceneObject]:
    """Return the objects that a noun refers to: "cat", "red cat", "red things", "cats", "things"."""
    *colour, kind = noun.split()
    kinds = {**{k: k for k in KINDS}, **{plural(k): k for k in KINDS}}
    return [
        thing
        for thing in drawn.objects
        if (kind in ("thing", "things") or thing.kind == kinds.get(kind)) and colour in ([], [thing.colour])
    ]


def one(drawn: Scene, noun: str) -> SceneObject:
    (thing,) = meant(drawn, noun)
    return thing


def beyond(first: SceneObject, word: str, second: SceneObject) -> bool:
    (x, y), (u, v) = first.centre, second.centre
    return {"left of": x < u, "right of": x > u, "above": y < v, "below": y > v}[word]


def answered(drawn: Scene, text: str) -> tuple[str, set[int]]:
    """Return the answer to a question in words, and the indices of its evidence: an independent oracle."""
    side = "left of|right of|above|below"

    def found(objects: list[SceneObject]) -> set[int]:
        return {drawn.objects.index(thing) for thing in objects}

    if match := re.fullmatch(r"(?:is there|do you see) an? (.+)\?", text):
        there = meant(drawn, match[1])
        return ("yes" if there else "no"), found(there)
    if match := re.fullmatch(r"how many (.+) (?:are there|do you see)\?", text):
        return str(len(meant(drawn, match[1]))), found(meant(drawn, match[1]))
    if match := re.fullmatch(r"(?:what colour is|which colour has) the (.+)\?", text):
        return one(drawn, match[1]).colour, found([one(drawn, match[1])])
    if match := re.fullmatch(rf"is the (.+) ({side}) the (.+)\?", text):
        first, second = one(drawn, match[1]), one(drawn, match[3])
        return ("yes" if beyond(first, match[2], second) else "no"), found([first, second])
    if match := re.fullmatch(rf"what is ({side}) the (.+)\?", text):
        other = one(drawn, match[2])
        (there,) = [thing for thing in drawn.objects if thing is not other and beyond(thing, match[1], other)]
        return there.kind, found([there, other])
    if match := re.fullmatch(r"are there more (.+) than (.+)\?", text):
        first, second = meant(drawn, match[1]), meant(drawn, match[2])
        return ("yes" if len(first) > len(second) else "no"), found([*first, *second])
    if match := re.fullmatch(
        r"(?:do the (.+) and the (.+) have the same colour|is the (.+) of the same colour as the (.+))\?", text
    ):
        pair = [one(drawn, noun) for noun in match.groups() if noun]
        return ("yes" if pair[0].colour == pair[1].colour else "no"), found(pair)
    if match := re.fullmatch(r"what is the (largest|smallest) thing\?", text):
        ordered = sorted(drawn.objects, key=lambda thing: thing.area)
        return ordered[-1 if match[1] == "largest" else 0].kind, found([ordered[-1 if match[1] == "largest" else 0]])
    match = re.fullmatch(r"what is (?:the )?(\w+)(?: thing)?\?", text)
    assert match, text
    thing = one(drawn, f"{match[1]} thing")
    return thing.kind, found([thing])


class TestQuestions:
    @pytest.mark.slow
    def test_answers_and_evidence_agree_with_the_oracle(self, scenes):
        for drawn in scenes:
            for question in questions(drawn):
                answer, objects = answered(drawn, question.text)
                assert question.answer == answer, (question.text, drawn.index)
                masks = [t.mask for i, t in enumerate(drawn.objects) if i in objects or not objects]
                assert np.array_equal(question.evidence, np.logical_or.reduce(masks))

    def test_all_types_are_asked_each_at_most_once_a_scene(self, scenes):
        counts = Counter(question.type for drawn in scenes for question in questions(drawn))
        assert set(counts) == set(TYPES)
        assert len(TYPES) >= 8
        assert max(counts.values()) <= MANY
        assert min(counts.values()) > 0.08 * MANY

    @pytest.mark.slow
    def test_yes_is_as_frequent_as_no(self, scenes):
        said = defaultdict(Counter)
        for drawn in (*scenes, *(scene("talk-train", index, 64) for index in range(2 * MANY))):
            for question in questions(drawn):
                said[question.type][question.answer] += 1
        for counts in said.values():
            yes, no = counts["yes"], counts["no"]
            assert yes == no == 0 or 0.35 < yes / (yes + no) < 0.65
        assert max(said["count"].values()) < 0.45 * said["count"].total()

    def test_the_same_scene_has_the_same_questions(self):
        first, again = (questions(scene("talk-val", 5, 64)) for _ in range(2))
        assert [(q.text, q.answer) for q in first] == [(q.text, q.answer) for q in again]

    def test_answers_are_in_the_answer_list(self, scenes):
        assert {question.answer for drawn in scenes for question in questions(drawn)} <= set(ANSWERS)


@pytest.mark.slow
def test_changed_priors_differ_in_the_test_split_only():
    """The validation split has the priors of training, so models are not selected on the test priors."""
    said = {
        split: Counter(q.answer for i in range(200) for q in questions(scene(f"priors-{split}", i, 48)))
        for split in ("train", "val", "test")
    }
    favoured = {
        split: sum(n for a, n in c.items() if ANSWERS.index(a) % 2 == 0) / c.total() for split, c in said.items()
    }
    assert favoured["train"] > 0.8
    assert favoured["val"] > 0.8
    assert favoured["test"] < 0.2


class TestAnnotators:
    def test_attention_maps_cover_the_evidence_and_differ(self, scenes):
        inside, area = [], []
        for drawn in scenes[:40]:
            for question in questions(drawn):
                maps = human_attention(drawn, question, 3)
                assert maps.shape == (3, 64, 64)
                assert maps.min() >= 0
                assert maps.max((1, 2)).tolist() == [1, 1, 1]
                assert not np.array_equal(maps[0], maps[1])
                inside.append((maps * question.evidence).sum() / maps.sum())
                area.append(question.evidence.mean())
        assert np.mean(inside) > 3 * np.mean(area)

    def test_annotators_agree_on_clear_images(self, scenes):
        said = [(a, q.answer) for drawn in scenes[:100] for q in questions(drawn) for a in annotations(drawn, q)]
        assert 0.95 < np.mean([given == right for given, right in said]) < 0.99

    @pytest.mark.slow
    def test_annotators_disagree_more_with_more_blur(self):
        right = defaultdict(list)
        for index in range(200):
            drawn = scene("ambiguous-train", index, 64)
            for question in questions(drawn):
                agreed = [given == question.answer for given in annotations(drawn, question)]
                right["clear" if drawn.clarity == 1 else "dim" if drawn.clarity > 0.5 else "dark"].extend(agreed)
        assert np.mean(right["clear"]) > np.mean(right["dim"]) + 0.05 > np.mean(right["dark"]) + 0.1

    def test_blurred_scenes_keep_their_objects(self):
        blurred = [s for s in (scene("ambiguous-val", index, 64) for index in range(30)) if s.clarity < 0.5]
        assert blurred
        for drawn in blurred:
            assert drawn.objects
            assert np.abs(np.diff(drawn.image.astype(int), axis=0)).mean() < 4


class TestCaptions:
    def test_scenes_have_five_varied_captions(self, scenes):
        texts = [[caption.text for caption in captions(drawn)] for drawn in scenes]
        assert all(len(of_scene) == 5 for of_scene in texts)
        assert np.mean([len(set(of_scene)) for of_scene in texts]) > 3.5

    def test_captions_agree_with_the_scene(self, scenes):
        places = {text: name for name, text in WHERE.items()}
        for drawn in scenes:
            for caption in captions(drawn):
                for text, name in places.items():
                    assert not caption.text.endswith(text) or drawn.background == name
                for number, (word, objects) in enumerate(zip(caption.words, caption.objects, strict=True)):
                    referents = [drawn.objects[i] for i in objects]
                    if word in COLOURS:
                        assert referents
                        assert any(thing.colour == word for thing in referents)
                    if word in KINDS or word in {plural(kind) for kind in KINDS}:
                        assert {plural(thing.kind) for thing in referents} == {plural(word) if word in KINDS else word}
                    if word in COUNTED:
                        assert len(referents) == COUNTED.index(word)
                    mask = caption.mask(drawn, number)
                    assert mask.shape == drawn.image.shape[:2]
                    assert mask.any() == bool(referents)

    def test_spatial_relations_agree_with_the_scene(self, scenes):
        seen = 0
        for drawn in scenes:
            for caption in captions(drawn):
                if match := re.fullmatch(r"an? (.+) (left of|right of|above|below) an? (.+)", caption.text):
                    first, second = meant(drawn, match[1]), meant(drawn, match[3])
                    assert any(beyond(x, match[2], y) for x in first for y in second)
                    seen += 1
        assert seen > MANY // 4


class TestMentions:
    def test_every_mention_in_the_captions_is_right(self, scenes):
        claims = Counter()
        for drawn in scenes:
            for caption in captions(drawn):
                found = mentions(caption.text, drawn)
                assert all(mention.right for mention in found), (caption.text, found)
                assert all(set(m.objects) == set(caption.objects[m.place]) for m in found), (caption.text, found)
                assert all(caption.words[mention.place] == mention.word for mention in found)
                claims.update(mention.claim for mention in found)
        assert set(claims) == {"kind", "colour", "count"}

    def test_captions_of_another_scene_are_mostly_wrong(self, scenes):
        right = [m.right for one, two in pairwise(scenes) for m in mentions(captions(one)[0].text, two)]
        assert np.mean(right) < 0.3


def test_nouns_are_the_words_that_name_kinds(scenes):
    named = {**{kind: kind for kind in KINDS}, **{plural(kind): kind for kind in KINDS}}
    for drawn in scenes:
        for caption in captions(drawn):
            found = caption.nouns(drawn)
            assert found == tuple(place for place, word in enumerate(caption.words) if word in named)
            for place in found:
                assert {drawn.objects[i].kind for i in caption.objects[place]} == {named[caption.words[place]]}
            meant = [caption.objects[place] for place in found]
            assert len(set(meant)) == len(meant)  # one caption names no objects twice
