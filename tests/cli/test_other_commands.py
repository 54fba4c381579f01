"""``saywhy methods``, ``layers``, ``demo``, ``--version`` and ``--help``; and a real process."""

import inspect
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import saywhy
from saywhy.cli import screen as screens
from saywhy.cli.pages import methods_page
from saywhy.datasets.registry import READERS
from saywhy.explainer.config import ARGUMENTS
from saywhy.methods import METHODS, Method, find_method
from saywhy.methods.guide import GUIDE
from saywhy.models import SOURCES
from saywhy.targets import TARGETS
from saywhy.targets.expression import parse_target
from saywhy.tasks.registry import TASKS

Run = Callable[..., Any]
COMMANDS = ("explain", "textual", "methods", "layers", "demo")
A = "photos/a.png"


def test_version_option_prints_the_version(run: Run) -> None:
    assert run("--version").out == f"saywhy {version('saywhy')}\n"


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_commands_and_usage(run: Run, words: tuple[str, ...], option: str) -> None:
    ran = run(*words, option)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage" in ran.out
    assert "…" not in ran.out
    if not words:
        for command in COMMANDS:
            assert re.search(rf"^\W*{command} +[A-Z]", ran.out, re.MULTILINE)


def test_no_arguments_print_help(run: Run) -> None:
    assert "explain" in run().out + run().err


def test_misspelt_command_is_exit_code_2(run: Run) -> None:
    ran = run("explane")
    assert (ran.code, ran.out) == (2, "")
    assert "explane" in ran.err


def test_methods_lists_every_method(run: Run) -> None:
    ran = run("methods")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert len(lines) == 1 + len(METHODS)  # no line is folded where no terminal is
    for line, method in zip(lines[1:], METHODS.values(), strict=True):
        name, cost, use = line.split("\t")
        assert name[2:] == method.name
        assert (name[0] == "*") is GUIDE[method.name].recommended
        assert cost == f"cost {GUIDE[method.name].images}"
        assert use == f"{GUIDE[method.name].what} Use: {GUIDE[method.name].when}"
    for line, method in zip(run("methods", "-v").out.splitlines()[1:], METHODS.values(), strict=True):
        assert method.paper in line
        assert method.equation in line


@pytest.mark.parametrize("width", [60, 80])
def test_the_list_of_methods_fits_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr(screens, "results", terminal)
    run("methods")
    lines = terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) > 2 * len(METHODS)
    assert max(len(line.rstrip()) for line in lines) <= width


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gradcam", "layercam", "shapleycam", "smoothgrad", "rsi-gradcam", "guided-gradcam", "fullgrad"]
)
def test_the_cost_of_a_method_is_the_number_of_images_that_run(name: str) -> None:
    model = saywhy.load("toybox:classifier")
    image = torch.rand(1, 3, 128, 128)
    saywhy.explain(model, image, "boat", relu=False)  # finds the layer
    counted: list[int] = []
    first = next(one for one in model.module.modules() if isinstance(one, torch.nn.Conv2d))
    first.register_forward_hook(lambda _module, given, _out: counted.append(len(given[0])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", saywhy.SaywhyWarning)
        saywhy.explain(model, image, "boat", name)
    assert abs(sum(counted) - int(GUIDE[name].images)) <= 1


def test_misspelt_arguments_and_classes_name_the_right_ones(here: Path) -> None:
    image = torch.rand(1, 3, 32, 32)
    model = saywhy.load("mine.py:network")
    with pytest.raises(saywhy.errors.MethodError, match=r"no parameter 'targets'. Did you mean target=\?"):
        saywhy.explain(model, image, targets="cat")
    assert set(ARGUMENTS) == set(inspect.signature(saywhy.explain).parameters) - {"model", "inputs", "parameters"}
    for name in ("Tiger_Cat", "tiger-cat", "TIGER CAT", "well known mug"):
        e = saywhy.explain(model, image, parse_target(name, model.labels), relu=False)
        assert e.targets[0][0] in ("tiger cat", "well-known mug")
    with pytest.raises(saywhy.errors.TargetError, match=r"nearest: 'well-known mug' \(3\)"):
        saywhy.explain(model, image, "mug")


def test_methods_json_and_markdown_have_every_method(run: Run) -> None:
    found = json.loads(run("methods", "--json").out)
    assert [m["name"] for m in found] == list(METHODS)
    assert {f.name for f in fields(Method)} - {"function"} | {"parameters", "differs"} == set(found[0])
    page = run("methods", "--markdown").out
    assert page == methods_page() + "\n"
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("|")}) == 1
    for line in page.splitlines():
        for name in re.findall(r"^\| `([^`]+)`", line):
            assert ("| probability |" in line) is (METHODS[name].score == "probability")


@pytest.mark.parametrize("name", [*METHODS, "smooth-kpcacam"])
def test_methods_name_describes_one_method(run: Run, name: str) -> None:
    ran = run("methods", name)
    assert (ran.code, ran.err) == (0, "")
    method = find_method(name)
    lines = ran.out.splitlines()
    assert lines[0].split(maxsplit=1)[1].strip() == f"{name}: {method.title}, {method.paper}"
    assert method.equation in lines[1]
    for parameter in method.parameters:
        assert [line for line in lines if re.match(rf"{parameter} +\S", line)]
    found = json.loads(run("methods", name, "--json").out)
    assert {k: v["default"] for k, v in found["parameters"].items()} == method.parameters
    for described in found["parameters"].values():
        assert described["allowed"]
        assert described["meaning"]
        assert not re.search(r"[`\n]|:func:|:math:", described["meaning"])


def test_shared_parameters_have_the_same_description(run: Run) -> None:
    steps = json.loads(run("methods", "conductance", "--json").out)["parameters"]["steps"]
    assert steps == json.loads(run("methods", "rsi-gradcam", "--json").out)["parameters"]["steps"]
    assert steps["allowed"] == ["a whole number of at least 1", "auto"]
    assert steps["meaning"].startswith('the number of steps of equal length, or "auto"')


def test_methods_name_shows_a_method_without_docstring(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(activations: Any, gradients: Any, *, depth=3) -> Any:  # type: ignore[no-untyped-def]
        return activations.sum(1)

    monkeypatch.setitem(METHODS, "bare", Method("bare", bare, "Bare", "nobody, 2020", "Σₖ Aₖ"))
    assert re.search(r"^depth +3\s*$", run("methods", "bare").out, re.MULTILINE)


@pytest.mark.parametrize(("name", "nearest"), [("gradcm", "'gradcam'"), ("finer-cam", "'finercam'"), ("nosuch", None)])
def test_unknown_method_fails_with_nearest_name(run: Run, name: str, nearest: str | None) -> None:
    for words in (("methods", name), ("explain", A, "-m", "mine.py:network", "--method", name)):
        ran = run(*words)
        assert (ran.code, ran.out) == (1, "")
        assert f"no method '{name}'" in ran.err
        assert "`saywhy methods` lists them all" in ran.err
        assert ran.err.count("'") <= 2 * 4  # itself, and the few that are near
        assert nearest is None or nearest in ran.err
        assert (nearest is None) is ("Nearest" not in ran.err)


def test_methods_name_with_markdown_is_exit_code_2(run: Run) -> None:
    ran = run("methods", "gradcam", "--markdown")
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    ("command", "registry", "head"),
    [
        ("targets", TARGETS, "target"),
        ("models", SOURCES, "model"),
        ("datasets", READERS, "data set"),
        ("tasks", TASKS, "task"),
    ],
)
def test_registry_commands_list_every_entry(run: Run, command: str, registry: Any, head: str) -> None:
    ran = run(command)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith(head)
    for value in registry.values():
        form = getattr(value, "form", value.name)
        assert [line for line in lines if line.startswith(form) and value.reading in line], form


@pytest.mark.parametrize(
    ("command", "registry", "keys"),
    [
        ("models", SOURCES, {"name", "reading"}),
        ("datasets", READERS, {"name", "form", "reading", "splits"}),
        ("tasks", TASKS, {"name", "title", "paper", "reading"}),
    ],
)
def test_registry_commands_print_json(run: Run, command: str, registry: Any, keys: set[str]) -> None:
    found = json.loads(run(command, "--json").out)
    assert [entry["name"] for entry in found] == list(registry)
    assert all(entry.keys() == keys for entry in found)
    assert [entry["reading"] for entry in found] == [value.reading for value in registry.values()]


def test_help_refers_to_the_lists_of_models_and_data_sets(run: Run) -> None:
    shown = " ".join(run("benchmark", "--help").out.replace("│", " ").split())
    assert "saywhy models" in shown
    assert "saywhy datasets" in shown


def test_targets_json_lists_every_target(run: Run) -> None:
    found = json.loads(run("targets", "--json").out)
    assert [t["name"] for t in found] == list(TARGETS)
    assert {key for t in found for key in t} == {"name", "form", "reading", "paper"}


def test_explain_accepts_named_targets(run: Run, here: Path) -> None:
    ran = run("explain", A, "-m", "mine.py:network", "--target", "top 2", "--target", "entropy", "--json")
    assert ran.code == 0, ran.err
    assert "entropy" in ran.out


def test_layers_takes_a_target(run: Run) -> None:
    ran = run("layers", "mine.py:network", A, "--target", "1")
    assert (ran.code, ran.err) == (0, "")
    assert "→" in ran.out
    assert "no class 99" in run("layers", "mine.py:network", A, "--target", "99").err


def test_layers_lists_proposed_layers(run: Run) -> None:
    ran = run("layers", "mine.py:network", A)
    assert (ran.code, ran.err) == (0, "")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["layer", "role", "channels", "map", "proof", "gradient"]
    assert [row.split()[0] for row in rows] == ["stem", "relu(stem)", "features", "→"]
    assert rows[-1].split()[1:] == ["relu(features)", "6", "8×8", "100%", "100%"]


def test_layers_all_lists_at_least_the_proposed_layers(run: Run, here: Path) -> None:
    few, every = run("layers", "mine.py:network", A), run("layers", "mine.py:network", A, "--all")
    assert len(every.out.splitlines()) >= len(few.out.splitlines())


def test_layers_accepts_a_question(run: Run) -> None:
    ran = run("layers", "toybox:vqa", A, "--question", "is there a cat?")
    assert ran.code == 0
    assert "trunk.features" in ran.out


def test_layers_of_missing_model_or_image_fails(run: Run) -> None:
    for words in (("mine.py:netwrk", A), ("mine.py:network", "photos/x.png"), ("mine.py:network", "photos")):
        ran = run("layers", *words)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("saywhy: ")
        assert ran.err.count("\n") == 1


@pytest.mark.slow
def test_demo_writes_page_and_images(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import saywhy.models

    load = saywhy.models.load
    monkeypatch.setattr("saywhy.models.load", lambda name: load(name, weights="random"))
    monkeypatch.setattr(sys.modules["saywhy.cli.demo"], "METHODS", ("eigencam",))
    ran = run("demo", "out", "--images", "1")
    assert ran.code == 0
    assert ran.out == f"open {(here / 'out' / 'index.html').resolve()}\n"
    page, scene, why = sorted(p.name for p in (here / "out").iterdir())
    assert (page, why) == ("index.html", "why.png")
    assert re.fullmatch(r"talk-test-\d+\.png", scene)
    written = (here / "out" / page).read_text()
    for heading in ("What is in the image?", "Ask a question", "each word of the question", "Caption the image"):
        assert heading in written


def test_the_demo_draws_at_least_one_image(run: Run) -> None:
    assert run("demo", "out", "--images", "0").code == 2


# --- the real thing ----------------------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from saywhy.cli import main; main()", *words]


def screen(columns: int, *commands: tuple[str, ...]) -> str:
    """What somebody sees of these commands on a terminal of so many columns, colours taken out."""
    main_end, their_end = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    code = f"from saywhy.cli import app\nfor words in {commands!r}: app(words, standalone_mode=False)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=their_end, stderr=their_end, env=environment)
    os.close(their_end)
    seen = b""
    while True:
        try:
            part = os.read(main_end, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(main_end)
    assert process.wait(60) == 0
    text = seen.decode().replace("\r\n", "\n")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return re.sub(r"[^\n]*\r", "", text)  # the frames of a progress bar, each over the one before


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 140])
def test_output_fits_the_terminal_width_uncut(here: Path, columns: int) -> None:
    explained = (
        "explain",
        A,
        "-m",
        "mine.py:network",
        "-t",
        "well-known mug - cat",
        "--method",
        "gradcam++",
        "-o",
        "a.png",
    )
    text = screen(
        columns,
        ("methods",),
        ("methods", "rsi-gradcam"),
        ("explain", "--help"),
        ("layers", "mine.py:network", A),
        explained,
    )
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.split("\n")) <= columns
    for whole in ("gradcam-elementwise", "features", "gradcam++ ", "--input-size", "wrote a.png"):
        assert whole in text


def test_names_that_do_not_fit_the_terminal_are_not_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screens, "results", Console(width=40))
    made = screens.table("layer", "map", whole=("layer",))
    made.add_row("encoder.layers." * 5, "tokens 14×14 + 1 before")
    screens.show(made)
    assert "encoder.layers." * 5 in capsys.readouterr().out


@pytest.mark.slow
def test_process_with_error_prints_one_sentence(here: Path) -> None:
    ran = subprocess.run(
        command("explain", A, "-m", "mine.py:network", "-t", "tigger cat"), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "saywhy: no class 'tigger cat'; nearest: 'tiger cat' (2), 'cat' (0).\n"


@pytest.mark.slow
def test_process_with_ascii_output_replaces_symbols(here: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(command("methods", "-v"), capture_output=True, text=True, check=True, env=environment)
    assert "ReLU(?? mean(G?) A?)" in ran.stdout
    assert ran.stderr == ""


@pytest.mark.slow
def test_process_stopped_by_ctrl_c_is_exit_code_130(here: Path) -> None:
    text = (
        (here / "mine.py")
        .read_text()
        .replace("return Net()", "import time; print('ready', flush=True); time.sleep(60)")
    )
    (here / "slow.py").write_text(text)
    process = subprocess.Popen(
        command("explain", A, "-m", "slow.py:network"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "saywhy: stopped\n"
    assert not (here / "why.html").exists()
