"""``saywhy demo``: the whole way on a machine that has nothing but Python."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saywhy.cli import screen

if TYPE_CHECKING:
    from saywhy.models import Model
    from saywhy.view.story import Chapter

SCENE = ("talk-test", 33)
"""The scene of which all three chapters speak, chosen by hand to look at."""

SCENES = (75, 23, 22, 51, 81)
"""Scenes of the test split, chosen by hand too."""

SIDE = 384
"""Pixels: scenes are drawn larger than the models are fed, as photographs are."""

METHODS = ("gradcam", "layercam", "hirescam", "gradcam++", "eigencam")

SPOKEN = ("hirescam", "gradcam", "guided-gradcam", "model-attention")
"""HiResCAM first: where a network looks at places of its own choice, Grad-CAM's mean over places says less."""

TITLE = "Why did the model say that?"
LEAD = (
    "Three small models look at drawn images: one says what is there, one answers questions, one writes captions. "
    "Every map shows where a model found its reasons; the legend below it says what its colours mean."
)
SEEN = (
    "The model gives a probability to every kind of thing. Choose one of its answers, another image, or another "
    "method, and the map follows. Below the answers stands what is known about the map, and whether to trust it."
)
ASKED = (
    "“{question}” The model answers “{answer}”. Choose another answer to see what in the image would speak for that "
    "one."
)
WORDS = (
    "The same question, word by word. Choose a word above the image: the map shows what the answer owes to it, which "
    "is little for words that could be left out."
)
SAID = (
    "The model writes “{sentence}”. Choose a word above the image to see what in the image made the model say it; "
    "the whole sentence has a map of its own."
)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the page and the images go.")] = Path("out/demo"),
    images: Annotated[
        int, typer.Option(min=1, max=200, help="How many scenes to draw; the first one is spoken of.")
    ] = 1 + len(SCENES),
) -> None:
    """Draw Toybox scenes, explain what the shipped models say of them, and write a page."""
    with screen.timed("loading torch and saywhy"):
        from saywhy.explain import explain
        from saywhy.models import load
        from saywhy.targets import Top
        from saywhy.view.story import Chapter, save_story
    with screen.timed("loading toybox:classifier, toybox:vqa and toybox:captioner"):
        classifier, answerer, captioner = (load(f"toybox:{name}") for name in ("classifier", "vqa", "captioner"))
    with screen.timed(f"drawing {images} scenes"):
        files = _drawn(folder, images)
    with screen.noted_warnings():
        with screen.timed("finding the layers and proving their layouts"):
            explain(classifier, files[0], relu=False)
        with screen.timed(f"explaining: {images} images × 3 answers × {len(METHODS)} methods"):
            seen = [explain(classifier, file, Top(3), METHODS) for file in files]
        with screen.timed("asking and captioning"):
            spoken = [*_asked(answerer, files[0]), _said(captioner, files[0])]
        with screen.timed("writing the page"):
            chapters = [Chapter("What is in the image?", SEEN, seen), *spoken]
            save_story(TITLE, LEAD, chapters, folder / "index.html")
            explain(classifier, files[0], Top(3)).save(folder / "why.png")
    print(f"open {(folder / 'index.html').resolve()}")


def _drawn(folder: Path, count: int) -> list[Path]:
    """So many scenes as files, that of which is spoken first."""
    from PIL import Image

    from saywhy.toybox import scene

    folder.mkdir(parents=True, exist_ok=True)
    others = [("test", i) for i in (*SCENES, *(i for i in range(count) if i not in SCENES))]
    files = []
    for split, index in [SCENE, *others][:count]:
        files.append(folder / f"{split}-{index}.png")
        Image.fromarray(scene(split, index, SIDE).image).save(files[-1])
    return files


def _asked(model: "Model", file: Path) -> "list[Chapter]":
    """A question about the colour of something in the scene, its answers, and its words."""
    from saywhy.explain import explain
    from saywhy.targets import Top
    from saywhy.tasks.vqa.word_ablation import word_ablation
    from saywhy.toybox import scene
    from saywhy.toybox.language import questions
    from saywhy.view.story import Chapter

    question = next(q.text for q in questions(scene(*SCENE)) if q.type == "colour")
    inputs = model.asked(file, question)
    answers = explain(model, inputs, Top(3), SPOKEN, relu=False)
    text = ASKED.format(question=question, answer=answers.targets[0][0])
    return [
        Chapter("Ask it something", text, [answers]),
        Chapter(
            "What does every word of the question do?", WORDS, [word_ablation(model, file, question, method=SPOKEN[:2])]
        ),
    ]


def _said(model: "Model", file: Path) -> "Chapter":
    """A caption, and its words."""
    from saywhy.tasks.captioning.caption import caption
    from saywhy.view.story import Chapter

    found = caption(model, file, method=SPOKEN, relu=False)
    return Chapter("Let it describe the image", SAID.format(sentence=found.caption), [found])
