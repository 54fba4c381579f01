"""Generated questions of an image, their maps and the maps of their words."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.decoding.transformers_generation import Generation
from saywhy.errors import InputError, MethodError, SaywhyWarning
from saywhy.metrics.diversity import map_distance
from saywhy.metrics.question_types import question_type
from saywhy.tasks.captioning.caption import CaptionsExplanation, diverse_captions
from saywhy.tasks.generation.generate import generate_diverse_texts, prompted
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown, head_generation
from saywhy.tasks.questioning.generate import GeneratedQuestion, answered, generate_questions
from saywhy.tasks.questioning.networks import QuestionGenerator
from saywhy.tasks.questioning.questions import QuestionsExplanation, questions
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox.models.vision_language import ToyboxTrunk, ToyboxVQAHead
from saywhy.uncertainty.report import UncertaintyReport

KNOWN = Vocabulary.of(["what colour is it", "why is it so"])
FAST = {"layer": "trunk", "relu": False}


def generator(head: type, known: Vocabulary = KNOWN) -> saywhy.Model:
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    network = QuestionGenerator(trunk, head(6, len(known), 5, 7))
    return saywhy.load(network, labels=known.words, input_size=16, texts={"question": known.batch})


@pytest.fixture(params=[ShowAndTell, TopDown])
def model(request) -> saywhy.Model:
    return generator(request.param)


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def vqa() -> saywhy.Model:
    known = Vocabulary.of(["what colour is it"])
    torch.manual_seed(4)
    network = VQAModel(ToyboxTrunk(), ToyboxVQAHead(len(known), 3)).eval()
    return saywhy.load(network, labels=("red", "blue", "2"), input_size=128, texts={"question": known.batch})


def test_questions_are_those_of_diverse_beam_search_each_once(model, image):
    found = questions(model, image, 3, 2, **FAST)
    wanted = generate_diverse_texts(model, image, 3, 2)[0]
    assert found.generated == 6
    assert [one.text for one in found.questions] == list(dict.fromkeys(f"{one.text}?" for one in wanted))
    assert [one.score for one in found.questions] == sorted((one.score for one in found.questions), reverse=True)
    assert {one.group for one in found.questions} <= {0, 1, 2}
    assert all(one.type == question_type(one.text) for one in found.questions)
    assert found.types == tuple(dict.fromkeys(one.type for one in found.questions))
    first = next(one for one in found.questions if one.group == 0)
    assert first.text == questions(model, image, 1, 2, **FAST).questions[0].text  # the first group is beam search


def test_words_of_a_question_sum_to_its_map(model, image):
    found = questions(model, image, 2, 1, **FAST)
    assert found.explanation.targets == [[one.text for one in found.questions]]
    for number, one in enumerate(found.questions):
        words = found.words(number)
        assert words.explanation.targets == [[one.text, *one.text.rstrip("?").split()]]
        assert words.word_targets == tuple(range(1, len(words.explanation.targets[0])))
        torch.testing.assert_close(words.explanation.maps[:, 0], words.explanation.maps[:, 1:].sum(1))
        torch.testing.assert_close(words.explanation.maps[0, 0], found.explanation.maps[0, number])
        alone = saywhy.explain(
            model, {"image": image, "question": one.text}, saywhy.targets.Sentence(), layer="trunk", relu=False
        )
        torch.testing.assert_close(alone.maps[0, 0], found.explanation.maps[0, number])
    if len(found.questions) > 1:
        torch.testing.assert_close(found.map_distances["gradcam", "trunk"], map_distance(found.explanation.maps))


def test_saved_questions_load_equal(model, image, tmp_path):
    found = questions(model, image, 2, 2, **FAST)
    found = dataclasses.replace(found, questions=tuple(answered(found.questions, every_word(image), image)))
    back = QuestionsExplanation.load(found.save(tmp_path / "q.npz"))
    assert back.questions == found.questions
    assert back.by_question == found.by_question
    assert back.generated == 4
    with pytest.raises(InputError, match="holds no captions"):
        CaptionsExplanation.load(tmp_path / "q.npz")
    page = found.save(tmp_path / "q.html").read_text()
    assert all(one.text in page and one.note in page for one in found.questions)
    assert found.save(tmp_path / "q.png").stat().st_size > 1000
    with pytest.raises(InputError, match="txt"):
        found.save(tmp_path / "q.txt")


def every_word(image: Tensor) -> saywhy.Model:
    return vqa_of(image, KNOWN)


def vqa_of(image: Tensor, known: Vocabulary | None = None) -> saywhy.Model:
    """A VQA model that takes the tensor of the test's image."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 3)

        def forward(self, image, question):
            return self.head(image.mean((2, 3)) + question.float().mean(1, keepdim=True))

    known = known or Vocabulary.of(["what colour is it"])
    torch.manual_seed(5)
    return saywhy.load(Small(), labels=("red", "blue", "2"), texts={"question": known.batch})


@torch.no_grad()
def test_answers_are_those_of_the_vqa_model(image):
    other = vqa_of(image)
    asked = [GeneratedQuestion(text, "what", 0, -1.0, -0.5) for text in ("what is it?", "what colour?")]
    for one in answered(asked, other, image):
        logits = other.module(image, Vocabulary.of(["what colour is it"]).batch([one.text]))
        assert one.answer.answer == other.labels[int(logits.argmax())]
        assert one.answer.probability == pytest.approx(float(logits.softmax(1).max()), abs=1e-6)
        assert f"answer: {one.answer.answer}, {100 * one.answer.probability:.0f} %" in one.note
        assert one.record()["answer"]["answer"] == one.answer.answer
        assert GeneratedQuestion.of(dataclasses.asdict(one)) == one


@pytest.mark.parametrize(
    ("probability", "abstains", "says"), [(0.64, None, "red, 64 %"), (0.9999, False, "red, > 99 %, may answer")]
)
def test_a_note_never_rounds_to_certainty(probability, abstains, says):
    report = UncertaintyReport("red", probability, (), abstains, "", 1)
    assert GeneratedQuestion("why?", "why", 0, -1.0, -0.5, report).note == f"type: why · answer: {says}"


def test_questions_that_the_vqa_model_does_not_understand_have_no_answer_or_a_warning(image):
    other, asked = vqa_of(image), [GeneratedQuestion("why so?", "why", 0, -1.0, -0.5)]
    with pytest.warns(SaywhyWarning, match="cannot be asked 'why so\\?'"):
        assert answered(asked, other, image) == asked
    with pytest.warns(SaywhyWarning, match="not in the vocabulary of .*: 'why'"):
        (found,) = answered([dataclasses.replace(asked[0], text="why is it?")], other, image)
    assert found.answer is not None


class TestPrompt:
    def test_questions_begin_with_the_prompt_and_have_the_probability_of_the_rest(self, model, image):
        found = questions(model, image, 2, 2, prompt="Why is", **FAST)
        for one in found.questions:
            assert one.text.startswith("why is ")
            assert one.type == "why is"
            words = KNOWN.batch([one.text])
            with torch.no_grad():
                output = model.module.eval()(image, words)
            rest = output.log_probabilities()[0, 2:]
            if output.words[0, -1] == 3 and words.shape[1] < 22:
                assert one.log_probability == pytest.approx(float(rest.sum()), abs=1e-4)

    def test_no_prompt_leaves_the_decoder_as_it_is(self, model, image):
        ready = head_generation(model.module.head.eval(), model.module.trunk(image))
        same = prompted(ready, torch.zeros(0, dtype=torch.long))
        assert torch.equal(same.start, ready.start)
        assert same.state is ready.state

    @pytest.mark.parametrize("prompt", ["где", "what кот", "色は何", "?", "", "what " * 20])
    def test_prompts_outside_the_vocabulary_raise(self, model, image, prompt):
        with pytest.raises(InputError, match="prompt"):
            questions(model, image, 2, 1, prompt=prompt, **FAST)


class TestBadInput:
    def test_an_image_of_one_colour_has_nothing_to_ask_about(self, model):
        for blank in (torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 1, 1).expand(1, 3, 16, 16) * 0.3):
            with pytest.raises(InputError, match="something to ask about"):
                questions(model, blank, 2, 1, **FAST)

    def test_more_questions_than_there_are_warns_and_returns_those(self, image):
        known = Vocabulary.of(["why"])
        short = generator(ShowAndTell, known)
        step = short.module.head.step

        def ends(words, state):  # one word, and the end
            logs, state = step(words, state)
            logs = torch.full_like(logs, -torch.inf)
            logs[words == 2, 4] = 0.0
            logs[words == 4, 3] = 0.0
            return logs, state

        short.module.head.step = ends
        with pytest.warns(SaywhyWarning, match=r"4 questions were asked for, and .* can generate only 1\."):
            found, generated = generate_questions(short, short_batch(short, image), 1, 4, 1.0)
        assert [one.text for one in found] == ["why?"]
        assert generated == 1

    def test_models_that_need_more_than_an_image_raise(self, image):
        with pytest.raises(InputError, match=r"generates text, got .*, which needs a question beside an image"):
            questions(vqa(), image)

        class Continues(QuestionGenerator):
            def generation(self, images: Tensor, words: Tensor) -> Generation:
                raise NotImplementedError

        network = Continues(nn.Conv2d(3, 6, 3), ShowAndTell(6, len(KNOWN), 4, 5))
        loaded = saywhy.load(network, labels=KNOWN.words, texts={"question": KNOWN.batch})
        with pytest.raises(InputError, match="whose generation also needs words"):
            questions(loaded, image)

    def test_two_images_a_wrong_penalty_and_a_wrong_answerer_raise(self, model, image):
        with pytest.raises(InputError, match="expected one image, got 2"):
            questions(model, torch.cat([image, image]), **FAST)
        with pytest.raises(MethodError, match="diversity_penalty"):
            questions(model, image, diversity_penalty=-1, **FAST)
        with pytest.raises(InputError, match="answers questions"):
            questions(model, image, 1, 1, answer=model, **FAST)
        with pytest.raises(InputError, match="answers questions"):
            questions(model, image, 1, 1, answer="toybox:classifier", **FAST)


def short_batch(model: saywhy.Model, image: Tensor):
    from saywhy.tasks.generation.explain import one_image

    return one_image(model, image)


def test_any_model_that_generates_text_can_ask(image):
    """A captioner, whose text argument has another name."""
    torch.manual_seed(1)
    network = CaptionModel(nn.Conv2d(3, 6, 3), ShowAndTell(6, len(KNOWN), 5, 7))
    loaded = saywhy.load(network, labels=KNOWN.words, texts={"caption": KNOWN.batch})
    found = questions(loaded, image, 2, 1, layer="trunk", relu=False)
    wanted = diverse_captions(loaded, image, 2, 1, layer="trunk", relu=False)
    assert [one.text for one in found.questions] == [f"{text}?" for text in wanted.captions]
    torch.testing.assert_close(found.explanation.maps, wanted.explanation.maps)
    assert dataclasses.asdict(found.questions[0])["text"].endswith("?")
