"""``saywhy demo``: a page of explanations of Toybox scenes, by the models that ship with the package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saywhy.cli import screen

if TYPE_CHECKING:
    from saywhy.models import Model
    from saywhy.view.chapters import Chapter

SCENE = ("talk-test", 33)
"""The scene that all chapters explain, selected by hand."""

SCENES = (75, 23, 22, 51, 81)
"""More scenes, of the test split, selected by hand."""

SIDE = 384
"""Pixels a side; larger than the input of the models, as photographs are."""

METHODS = ("gradcam", "layercam", "hirescam", "gradcam++", "eigencam")

LANGUAGE_METHODS = ("hirescam", "gradcam", "guided-gradcam", "model-attention")
"""HiResCAM first: networks with attention weight places, and Grad-CAM's mean of gradients over places loses that."""

TITLE = "Why did the model say that?"
LEAD = (
    "Three small models, for classification, visual question answering and captioning, on drawn scenes. A saliency map "
    "shows which parts of the image a model output depends on; the legend below each map explains its colours."
)
CLASSIFICATION = (
    "A multi-label classifier gives a probability to every class. Choose another class, image or method to see its "
    "map. Its technical checks are listed beside it. They do not say that the map can be trusted: “saywhy check” does."
)
ANSWERS = "Question: “{question}” The model answers “{answer}”. Choose another answer to see the evidence for it."
WORDS = (
    "Word ablation of the same question. Choose a word above the image: its map is the change of the answer’s map when "
    "the word is left out. It is weak for words that do not matter."
)
CAPTION = (
    "The model generates “{sentence}”. Choose a word above the image to see the evidence for it; the whole caption has "
    "a map of its own."
)


def demo(
    folder: Annotated[Path, typer.Argument(help="The folder for the page and the images.")] = Path("out/demo"),
    images: Annotated[int, typer.Option(min=1, max=200, help="The number of scenes.")] = 1 + len(SCENES),
) -> None:
    """Draw Toybox scenes, explain the outputs of the shipped models, and write a page."""
    with screen.timed("loading torch and saywhy"):
        from saywhy.explain import explain
        from saywhy.models import load
        from saywhy.targets import Top
        from saywhy.view.chapters import Chapter, save_chapters
    with screen.timed("loading toybox:classifier, toybox:vqa and toybox:captioner"):
        classifier, vqa, captioner = (load(f"toybox:{name}") for name in ("classifier", "vqa", "captioner"))
    with screen.timed(f"drawing {images} scenes"):
        files = _draw_scenes(folder, images)
    with screen.noted_warnings():
        with screen.timed("finding the layers and proving their layouts"):
            explain(classifier, files[0], relu=False)
        with screen.timed(f"explaining: {images} images × 3 classes × {len(METHODS)} methods"):
            explanations = [explain(classifier, file, Top(3), METHODS) for file in files]
        with screen.timed("asking and captioning"):
            language = [*_answer_chapters(vqa, files[0]), _caption_chapter(captioner, files[0])]
        with screen.timed("writing the page"):
            chapters = [Chapter("What is in the image?", CLASSIFICATION, explanations), *language]
            save_chapters(TITLE, LEAD, chapters, folder / "index.html")
            explain(classifier, files[0], Top(3)).save(folder / "why.png")
    screen.say(f"open {(folder / 'index.html').resolve()}")


def _draw_scenes(folder: Path, count: int) -> list[Path]:
    """Write ``count`` scenes as files, `SCENE` first; return their paths."""
    from PIL import Image

    from saywhy.toybox import scene

    folder.mkdir(parents=True, exist_ok=True)
    others = [("test", i) for i in (*SCENES, *(i for i in range(count) if i not in SCENES))]
    files = []
    for split, index in [SCENE, *others][:count]:
        files.append(folder / f"{split}-{index}.png")
        Image.fromarray(scene(split, index, SIDE).image).save(files[-1])
    return files


def _answer_chapters(model: "Model", file: Path) -> "list[Chapter]":
    """Return a chapter of the answers to a question about a colour, and one of its word ablation."""
    from saywhy.explain import explain
    from saywhy.targets import Top
    from saywhy.tasks.vqa.word_ablation import word_ablation
    from saywhy.toybox import scene
    from saywhy.toybox.language import questions
    from saywhy.view.chapters import Chapter

    question = next(q.text for q in questions(scene(*SCENE)) if q.type == "colour")
    inputs = model.prepare_inputs(file, question)
    answers = explain(model, inputs, Top(3), LANGUAGE_METHODS, relu=False)
    text = ANSWERS.format(question=question, answer=answers.targets[0][0])
    return [
        Chapter("Ask a question", text, [answers]),
        Chapter(
            "How does each word of the question change the map?",
            WORDS,
            [word_ablation(model, file, question, method=LANGUAGE_METHODS[:2])],
        ),
    ]


def _caption_chapter(model: "Model", file: Path) -> "Chapter":
    """Return a chapter of a caption and its words."""
    from saywhy.tasks.captioning.caption import caption
    from saywhy.view.chapters import Chapter

    found = caption(model, file, method=LANGUAGE_METHODS, relu=False)
    return Chapter("Caption the image", CAPTION.format(sentence=found.caption), [found])
