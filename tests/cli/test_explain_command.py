"""``saywhy explain``: maps of images, and one sentence for every error."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saywhy

Run = Callable[..., Any]
MODEL = ("-m", "mine.py:network")
A = "photos/a.png"


def assert_one_sentence(ran: Any, *words: str) -> None:
    """Exit code 1, nothing on standard output, and one line that says it."""
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("saywhy: ")
    assert ran.err.count("\n") == 1
    for word in words:
        assert word in ran.err, f"'{word}' is not in: {ran.err}"


# --- results -----------------------------------------------------------------------------------------------------


def test_explain_prints_a_row_and_writes_a_page(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "-t", "cat")
    assert ran.code == 0
    header, row = ran.out.splitlines()
    assert header.split()[:2] == ["image", "target"]
    for word in ("a.png", "cat", "gradcam", "features", "%"):
        assert word in row
    assert "wrote why.html" in ran.err
    assert (here / "why.html").stat().st_size > 10_000


def test_json_has_all_fields_and_writes_no_page(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "-t", "cat", "-t", "dog - cat", "--json")
    assert (ran.code, ran.err) == (0, "")
    (found,) = json.loads(ran.out)
    assert found["image"] == "a.png"
    assert found["size"] == [60, 40]
    np.testing.assert_allclose(found["crop_box"], [10, 0, 50, 40], atol=1)
    cat, difference = found["maps"]
    assert set(cat) == {
        "image", "target", "class", "score", "probability", "method", "layer", "grid", "peak", "box", "diagnostics",
    }  # fmt: skip
    assert (cat["target"], cat["class"], cat["grid"]) == ("cat", 0, [8, 8])
    assert (difference["target"], difference["class"], difference["probability"]) == ("dog - cat", -1, None)
    assert 0 < cat["probability"] < 1
    assert {one["name"] for one in cat["diagnostics"]} >= {"layout", "gradient", "evidence"}
    assert found["provenance"]["model"] == "mine.py:network"
    assert not (here / "why.html").exists()


def test_json_equals_the_explanation_in_python(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "-t", "dog", "--method", "hirescam", "--json")
    (record,) = json.loads(ran.out)[0]["maps"]
    e = saywhy.explain(saywhy.load("mine.py:network"), A, "dog", "hirescam")
    assert record["score"] == pytest.approx(e.scores.item())
    assert record["peak"] == pytest.approx(e.peak())
    assert record["box"] == list(e.box() or ())


def test_json_with_output_writes_the_file(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "--json", "-o", "out/why.npz")
    assert json.loads(ran.out)
    assert ran.err == "wrote out/why.npz\n"
    assert saywhy.Explanation.load("out/why.npz").images[0].name == "a.png"


@pytest.mark.parametrize("name", ["why.png", "deep/er/why.html", "why.npz", "WHY.PNG"])
def test_output_suffix_selects_the_format(run: Run, here: Path, name: str) -> None:
    assert run("explain", A, *MODEL, "-o", name).err.endswith(f"wrote {name}\n")
    assert (here / name).stat().st_size > 0
    if name.lower().endswith("png"):
        with Image.open(here / name) as image:
            assert "saywhy" in image.text  # type: ignore[attr-defined]


def test_command_on_the_page_tests_the_same_map(run: Run, here: Path) -> None:
    run("explain", A, *MODEL, "-t", "cat", "--layer", "features", "--with", "relu=false")
    page = (here / "why.html").read_text(encoding="utf-8")
    assert "--layer features --with relu=false --target cat --method gradcam" in page
    run("explain", A, *MODEL, "-t", "cat", "--score", "probability")
    page = (here / "why.html").read_text(encoding="utf-8")
    assert "--score probability --target cat --method gradcam --check" in page


def test_a_folder_of_images_on_one_page(run: Run, here: Path) -> None:
    ran = run("explain", "photos", *MODEL)
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 4
    page = (here / "why.html").read_text(encoding="utf-8")
    assert "b.jpg" in page
    assert "3 images" in page


def test_output_folder_gets_one_file_per_image(run: Run, here: Path) -> None:
    ran = run("explain", "photos", *MODEL, "-o", "maps")
    assert ran.code == 0
    assert sorted(p.name for p in (here / "maps").iterdir()) == [
        "a-2.png", "a.png", "b.png", "index.html", "results.jsonl"
    ]  # fmt: skip
    assert ran.err.count("wrote maps/") == 4
    rows = [json.loads(line) for line in (here / "maps" / "results.jsonl").read_text().splitlines()]
    assert [(row["source"], row["file"]) for row in rows] == [
        ("photos/a.png", "a.png"), ("photos/b.jpg", "b.png"), ("photos/deep/a.png", "a-2.png")
    ]  # fmt: skip
    index = (here / "maps" / "index.html").read_text(encoding="utf-8")
    assert [f'href="{name}"' in index for name in ("a.png", "b.png", "a-2.png")] == [True] * 3


def test_a_second_run_goes_on_where_the_first_was_stopped(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, calls = sys.modules["saywhy.explain"], []
    real = module.explain

    def stopped_at_the_second(model: Any, file: Any, *given: Any, **named: Any) -> Any:
        calls.append(file.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(model, file, *given, **named)

    monkeypatch.setattr(module, "explain", stopped_at_the_second)
    assert run("explain", "photos", *MODEL, "-o", "maps").code == 130
    assert sorted(p.name for p in (here / "maps").iterdir()) == ["a.png", "index.html", "results.jsonl"]
    before = (here / "maps" / "a.png").stat().st_mtime_ns
    ran = run("explain", "photos", *MODEL, "-o", "maps")
    assert (ran.code, calls) == (0, ["a.png", "b.jpg", "b.jpg", "a.png"])
    assert "1 image finished by an earlier run" in ran.err
    assert (here / "maps" / "a.png").stat().st_mtime_ns == before
    assert len(ran.out.splitlines()) == 4  # the table has the earlier image too
    assert "3 of 3" not in ran.err
    run("explain", "photos", *MODEL, "-o", "maps", "-t", "cat")  # other settings are computed again
    assert len(calls) == 7
    run("explain", "photos", *MODEL, "-o", "maps", "-t", "cat")
    assert len(calls) == 7


def test_files_of_another_origin_are_not_overwritten(run: Run, here: Path) -> None:
    (here / "maps").mkdir()
    (here / "maps" / "a.png").write_text("mine")
    assert run("explain", A, *MODEL, "-o", "maps").code == 0
    assert (here / "maps" / "a.png").read_text() == "mine"
    assert (here / "maps" / "a-2.png").exists()


def test_ctrl_c_keeps_what_is_finished_on_one_page(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = sys.modules["saywhy.explain"], []
    real = module.explain

    def stopped_at_the_third(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(module, "explain", stopped_at_the_third)
    assert run("explain", "photos", *MODEL).code == 130
    assert "2 images" in (here / "why.html").read_text(encoding="utf-8")


def test_several_outputs_and_a_word_where_a_file_is_replaced(run: Run, here: Path) -> None:
    first = run("explain", A, *MODEL, "-o", "why.html", "-o", "why.npz", "-o", "maps")
    assert [line.split("/")[0] for line in first.err.splitlines() if line.startswith("wrote")] == [
        "wrote maps", "wrote maps", "wrote why.html", "wrote why.npz"
    ]  # fmt: skip
    assert "replaced why.html" in run("explain", A, *MODEL).err


def test_a_line_of_progress_without_a_terminal(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saywhy.cli.screen.SILENCE", 0.0)
    lines = [line for line in run("explain", "photos", *MODEL).err.splitlines() if " steps, about " in line]
    assert [line.split(" steps")[0] for line in lines] == ["1 of 4", "2 of 4", "3 of 4"]


def test_rows_behind_an_incomplete_line_are_found_again(run: Run, here: Path) -> None:
    run("explain", A, *MODEL, "-o", "maps")
    with (here / "maps" / "results.jsonl").open("a") as file:
        file.write('{"source": "photos/b.jpg", "fi')
    assert run("explain", "photos", *MODEL, "-o", "maps").code == 0
    again = run("explain", "photos", *MODEL, "-o", "maps")
    assert "3 images finished by an earlier run" in again.err
    names = ["a-2.png", "a.png", "b.png", "index.html", "results.jsonl"]
    assert sorted(p.name for p in (here / "maps").iterdir()) == names


def test_image_whose_file_was_not_written_is_computed_again(run: Run, here: Path) -> None:
    """A run that is killed leaves the row without its file."""
    run("explain", A, *MODEL, "-o", "maps")
    (here / "maps" / "a.png").unlink()
    assert "finished by an earlier run" not in run("explain", A, *MODEL, "-o", "maps").err
    assert sorted(p.name for p in (here / "maps").iterdir()) == ["a.png", "index.html", "results.jsonl"]


def test_sheet_has_the_images_of_this_run_only(run: Run, here: Path) -> None:
    run("explain", "photos", *MODEL, "-o", "maps")
    run("explain", A, *MODEL, "-o", "maps", "-t", "cat")
    index = (here / "maps" / "index.html").read_text(encoding="utf-8")
    assert 'href="a.png"' in index
    assert 'href="b.png"' not in index


def test_a_damaged_line_of_results_is_left_out(run: Run, here: Path) -> None:
    run("explain", A, *MODEL, "-o", "maps")
    with (here / "maps" / "results.jsonl").open("a") as file:
        file.write('{"source": "photos/b.jpg", "fi')
    ran = run("explain", A, *MODEL, "-o", "maps")
    assert (ran.code, "line 2 is no result" in ran.err) == (0, True)


def test_no_map_is_called_trusted_before_it_is_tested(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "-t", "cat")
    assert "technical checks" in ran.out
    assert "trusted" not in ran.out
    assert "can these maps be trusted? not tested yet: see `saywhy check`" in ran.err
    assert '"verdict":null' in (here / "why.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_check_tests_every_map_and_embeds_the_verdicts(run: Run, here: Path) -> None:
    ran = run("explain", A, *MODEL, "-t", "cat", "-t", "dog", "--check", "-o", "why.html")
    assert ran.code == 0
    summaries = [line for line in ran.out.splitlines() if re.search(r"(passed all|failed \d of \d+) checks", line)]
    assert len(summaries) == 2
    assert "not tested yet" not in ran.err
    page = (here / "why.html").read_text(encoding="utf-8")
    assert page.count('"verdict":{"passed":') == 2
    found = json.loads(run("explain", A, *MODEL, "-t", "cat", "--check", "--json").out)[0]["maps"][0]["verdict"]
    e = saywhy.explain(saywhy.load("mine.py:network"), A, "cat")
    (verdict,) = saywhy.checks.verdicts(e)[0]
    assert (found["passed"], found["summary"]) == (verdict.passed, verdict.summary)
    assert [one["name"] for one in found["checks"]] == [one.name for one in verdict.results]


def test_methods_layers_and_targets_are_combined(run: Run) -> None:
    ran = run(
        "explain", A, *MODEL, "--method", "gradcam", "--method", "hirescam", "-l", "features", "-l", "stem",
        "-t", "cat", "-t", "dog", "--json",
    )  # fmt: skip
    maps = json.loads(ran.out)[0]["maps"]
    assert len({(m["method"], m["layer"], m["target"]) for m in maps}) == 8


@pytest.mark.parametrize("given", ["seed=1", "layer=stem", "model=x", "steps=3"])
def test_unknown_method_parameter_fails(run: Run, given: str) -> None:
    ran = run("explain", A, *MODEL, "--with", given)
    assert (ran.code, ran.out) == (1, "")
    assert f"gradcam has no parameter '{given.split('=')[0]}'" in ran.err


def test_fuse_gives_one_map_of_several_layers(run: Run) -> None:
    ran = run("explain", A, *MODEL, "-l", "features", "-l", "stem", "--fuse", "mean", "--json")
    found = json.loads(ran.out)[0]
    assert [m["layer"] for m in found["maps"]] == ["features + stem (mean)"]
    assert found["provenance"]["fuse"] == "mean"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["cat"], ["cat"]),
        (["Tiger Cat"], ["tiger cat"]),
        (["1"], ["dog"]),
        (["cat - dog"], ["cat - dog"]),
        (["2 cat - 0.5 dog"], ["2 cat - 0.5 dog"]),
        (["-cat"], ["-cat"]),
        (["- 1 + cat"], ["-dog + cat"]),
        (["well-known mug"], ["well-known mug"]),
        (["well-known mug - cat"], ["well-known mug - cat"]),
        (["cat", "dog"], ["cat", "dog"]),
    ],
)
def test_target_expressions_are_parsed(run: Run, words: list[str], names: list[str]) -> None:
    ran = run("explain", A, *MODEL, "--json", *(part for word in words for part in ("-t", word)))
    assert [m["target"] for m in json.loads(ran.out)[0]["maps"]] == names


def test_labels_come_from_a_file(run: Run, here: Path) -> None:
    (here / "names.txt").write_text("hen\nowl\nfox\nelk\n")
    for command in (("explain", A), ("check", A)):
        ran = run(*command, *MODEL, "--labels", "names.txt", "-t", "owl", "--json")
        assert ran.code == 0, ran.err
        assert '"target": "owl"' in ran.out
    assert_one_sentence(run("explain", A, *MODEL, "--labels", "none.txt"), "none.txt", "cannot be read")


def test_top_k_explains_the_most_probable_classes(run: Run) -> None:
    maps = json.loads(run("explain", A, *MODEL, "-k", "3", "--json").out)[0]["maps"]
    probabilities = [m["probability"] for m in maps]
    assert len(maps) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    both = json.loads(run("explain", A, *MODEL, "-t", "cat", "-k", "2", "--json").out)[0]["maps"]
    assert len(both) == 3
    assert both[0]["target"] == "cat"


def test_input_size_and_score_options_are_applied(run: Run) -> None:
    found = json.loads(
        run("explain", A, *MODEL, "-t", "0", "--input-size", "16", "--score", "probability", "--json").out
    )[0]
    assert found["maps"][0]["grid"] == [4, 4]
    assert found["maps"][0]["score"] == pytest.approx(found["maps"][0]["probability"])


def test_warnings_are_printed_as_notes(run: Run, here: Path) -> None:
    text = (here / "mine.py").read_text().replace("return self.fc(", "return -0.0 * x.mean() + 0 * self.fc(")
    (here / "dead.py").write_text(text)
    ran = run("explain", A, "-m", "dead.py:network", "-t", "cat", "-l", "features", "--json")
    assert ran.code == 0
    assert ran.err.startswith("note: 'cat': the map is zero everywhere because")
    assert json.loads(ran.out)[0]["maps"][0]["peak"] is None


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_damaged_images_are_reported_and_the_others_explained(run: Run, here: Path) -> None:
    (here / "photos" / "aa.png").write_bytes((here / A).read_bytes()[:300])
    (here / "photos" / "c.jpg").write_text("this is no image")
    ran = run("explain", "photos", "missing.png", *MODEL, "--json", "-o", "why.html")
    assert ran.code == 1
    assert [found["image"] for found in json.loads(ran.out)] == ["photos/a.png", "b.jpg", "deep/a.png"]
    assert (here / "why.html").exists()
    failures = [line for line in ran.err.splitlines() if line.startswith("saywhy: ")]
    assert len(failures) == 3
    for line, word in zip(failures, ("aa.png", "c.jpg", "missing.png"), strict=True):
        assert word in line


def test_only_damaged_images_fail_without_a_page(run: Run, here: Path) -> None:
    (here / "c.jpg").write_text("this is no image")
    assert_one_sentence(run("explain", "c.jpg", *MODEL), "c.jpg", "is not an image", "this is no image")
    assert not (here / "why.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([A, "-t", "tigger cat"], ("no class 'tigger cat'", "'tiger cat' (2)")),
        ([A, "-t", "9"], ("no class 9", "0 to 3")),
        ([A, "-t", ""], ("no target",)),
        ([A, "-k", "9"], ("number of top classes must be a whole number from 1 to 4", "got 9")),
        ([A, "-k", "0"], ("number of top classes must be a whole number from 1 to 4", "got 0")),
        ([A, "--method", "gradcan"], ("no method 'gradcan'", "'gradcam'")),
        ([A, "-l", "featres"], ("'featres'", "'features'")),
        ([A, "-l", "fc"], ("'fc'", "is not a map of an image")),
        ([A, "--input-size", "0"], ("input_size", "0")),
        ([A, "-w", "no.safetensors"], ("no weights file 'no.safetensors'",)),
        ([A, "-w", "mine.py"], ("mine.py",)),
        ([A, "-o", "why.gif"], ("why.gif", "expected .html, .png, .jpg, .jpeg, .pdf, .svg, .npz or a folder")),
        (["photos", "-o", "why.png"], ("3 explanations do not fit into one .png file",)),
        (["photos", "-o", "why.npz"], ("3 explanations do not fit into one .npz file",)),
        ([A, "-o", "mine.py/why.html"], ("cannot be written",)),
        (["photos", "-o", "mine.py/why.html"], ("cannot be written",)),
        (["photos", "-o", "mine.py/maps"], ("cannot be written",)),
        (["empty"], ("empty", "holds no image")),
        (["photo/a.png"], ("no file 'photo/a.png'", "Nor is there a folder")),
        (["photos/aa.png"], ("no file 'photos/aa.png'", "Nearest in that folder: 'a.png'")),
    ],
)
def test_errors_are_one_sentence(run: Run, here: Path, words: list[str], said: tuple[str, ...]) -> None:
    (here / "empty").mkdir()
    assert_one_sentence(run("explain", *words, *MODEL), *said)
    assert not [p for p in here.rglob("*") if ".part" in p.name]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("torchvison:resnet50", "'torchvision:resnet50'"),
        ("torchvision:resnt50", "'torchvision:resnet50'"),
        ("mine.py:netwrk", "network"),
        ("yours.py:network", "no file 'yours.py'"),
        ("toybox:clasifier", "'toybox:classifier'"),
    ],
)
def test_misspelt_models_fail_with_nearest_name(run: Run, model: str, said: str) -> None:
    assert_one_sentence(run("explain", A, "-m", model, "-w", "random"), said)


@pytest.mark.parametrize(
    "words",
    [
        [],
        [A, "--no-such-option"],
        [A, "-k", "many"],
        [A, "--fuse", "median"],
        [A, "--score", "logits"],
        [A, "--precision", "slow"],
        [A, "-t"],
    ],
)
def test_misspelt_commands_are_exit_code_2(run: Run, words: list[str]) -> None:
    ran = run("explain", *words, *MODEL) if words[-1:] != ["-t"] else run("explain", *MODEL, *words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err


def test_ctrl_c_is_exit_code_130_and_leaves_nothing(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = sorted(here.rglob("*"))
    monkeypatch.setattr(sys.modules["saywhy.explain"], "explain", stop)
    assert run("explain", A, *MODEL).code == 130
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(os, "fsync", stop)  # written, and not yet at its name
    assert run("explain", A, *MODEL).code == 130
    assert sorted(p for p in here.rglob("*") if "__pycache__" not in str(p)) == before


def test_out_of_memory_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sys.modules["saywhy.explain"], "explain", greedy)
    assert_one_sentence(run("explain", A, *MODEL), "memory")


# --- how maps are drawn ------------------------------------------------------------------------------------------


def test_files_for_papers_and_slides(run: Run, here: Path) -> None:
    files = [here / f"why{suffix}" for suffix in (".pdf", ".svg", ".jpg")]
    ran = run("explain", A, *MODEL, "--cmap", "turbo", "--alpha", "0.5", *(f"-o{file}" for file in files))
    assert ran.code == 0
    assert [file.read_bytes()[:4] for file in files] == [b"%PDF", b"<?xm", b"\xff\xd8\xff\xe0"]


def test_no_legend_writes_images_of_the_original_size(run: Run, here: Path) -> None:
    assert run("explain", A, *MODEL, "--no-legend").code == 0
    assert run("explain", "photos", *MODEL, "--no-legend", "-o", "maps").code == 0
    for file in ("why.png", "maps/a.png"):
        with Image.open(here / file) as image:
            assert image.size == (60, 40)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--cmap", "turb"), ("Nearest: 'turbo'",)),
        (("--no-legend", "-o", "why.html"), ("--no-legend writes FILE.png, FILE.jpg or a folder",)),
        (("--no-legend", "-t", "cat", "-t", "dog"), ("one map an image", "--target")),
        (("--no-legend", "--top", "2"), ("one map an image", "--top 1")),
        (("--device", "gpu"), ("device must be 'cpu', 'cuda'", "got 'gpu'")),
    ],
)
def test_wrong_settings_of_drawing_fail_before_anything_is_computed(
    run: Run, here: Path, given: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_one_sentence(run("explain", A, *MODEL, *given), *words)
    assert not list(here.glob("why*"))
