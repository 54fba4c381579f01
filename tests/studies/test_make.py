"""Studies are made of models and data: which images, what is refused, keys that tell nothing; and the commands."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import saywhy
from saywhy.cli import app
from saywhy.datasets.load import open_dataset
from saywhy.errors import InputError
from saywhy.studies.answers import AnswerStore
from saywhy.studies.make import make_study
from saywhy.studies.study import StudyDesign, read_study

TOYBOX = ["--data", "toybox:test", "-m", "toybox:classifier"]


@pytest.mark.slow
def test_a_study_of_two_classes(tmp_path: Path) -> None:
    model = saywhy.load("toybox:classifier")
    design = StudyDesign("discrimination", ("toybox:classifier",), ("gradcam", "guided-gradcam"), 3, 4, 1)
    study = make_study(design, [model], open_dataset("toybox:test"), tmp_path / "study", images=2)
    assert read_study(tmp_path / "study") == study
    assert len(study.items) == 2 * 2 * 2
    for one in study.items:
        assert len(one.options) == 2
        assert re.fullmatch(r"item-[0-9a-f]{10}", one.key)
        with Image.open(study.folder / one.files[0]) as image:
            assert max(image.size) == 480
            assert image.mode == ("L" if one.method == "guided-gradcam" else "RGB")
    assert sorted(one.right or 0 for one in study.items) == [0] * 4 + [1] * 4
    assert study.provenance["maps"]["model"] == "toybox:classifier"
    with pytest.raises(InputError, match="is not empty"):
        make_study(design, [model], open_dataset("toybox:test"), tmp_path / "study", images=2)


@pytest.mark.slow
def test_a_study_of_two_models_takes_images_that_both_get_right(tmp_path: Path) -> None:
    good, bad = saywhy.load("toybox:classifier"), saywhy.load("toybox:classifier", "random")
    data = open_dataset("toybox:test")
    design = StudyDesign("trust", ("good", "same"), ("gradcam",), 2, 2, 0)
    study = make_study(design, [good, good], data, tmp_path / "same", images=2)
    for one in study.items:
        assert one.predicted in next(
            image.labels for image in (data[i] for i in range(len(data))) if image.name == one.image
        )
        first, second = ((study.folder / file).read_bytes() for file in one.files)
        assert first == second
    few = type(
        "Few", (), {"name": "few", "labels": data.labels, "__len__": lambda _: 4, "__getitem__": lambda _, i: data[i]}
    )()
    with pytest.raises(
        InputError, match=r"few has \d images of which both models predict the same, right class; 4 are"
    ):
        make_study(design, [good, bad], few, tmp_path / "few", images=4)


def test_impossible_numbers_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    for options, words in ((["--images", "3", "--items", "4"], "but the study has 3"),
                           (["--images", "9", "--items", "4", "--checks", "5"], "there are 3")):  # fmt: skip
        more = [*TOYBOX, "-m", "toybox:classifier", "--method", "gradcam", *options]
        result = CliRunner().invoke(app, ["study", "make", str(tmp_path / "study"), "trust", *more])
        assert result.exit_code == 1
        assert words in " ".join(result.output.split())
        assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_from_the_design_to_the_report(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["study", *words], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 0, result.output
        return result.output

    folder = str(tmp_path / "study")
    options = ["--method", "gradcam,hirescam", "--images", "5", "--raters", "6", "--items", "10"]
    assert "20 items of 5 images" in run("make", folder, "discrimination", *TOYBOX, *options)
    assert "5 simulated raters" in run("simulate", folder, "--raters", "perfect,perfect,noisy,noisy,adversarial")
    report = run("report", folder, "-o", str(tmp_path / "report.html"), "--csv", str(tmp_path / "answers.csv"))
    assert "All raters are simulated" in report
    assert "All raters are simulated" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 1 + 5 * 12
    store = AnswerStore(read_study(folder))
    key = store.join()
    for shown in store.shown(key)[0]:
        store.add(key, shown.item.key, shown.item.right or 0, 5)
    found = json.loads(run("report", folder, "--json"))
    assert (found["raters"], found["simulated"]) == (1, 0)
    assert run("power", "0.3").splitlines()[0] == "107"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nowhere"], "there is no study in"),
        (["power", "0.05"], "Take more than 1005 images"),
        (["power", "0.3", "--deviations", "1,2"], "three numbers"),
        (["power", "0.3", "--kind", "odd"], "kind must be"),
        (["make", "x", "odd", *TOYBOX], "kind must be"),
        (["make", "x", "trust", *TOYBOX], "needs two models"),
        (["make", "x", "trust", *TOYBOX, "-m", "b", "--method", "gradcamm"], "gradcam"),
    ],
)
def test_wrong_arguments_are_said(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["study", *words])
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())
