"""``saywhy count``: one image, several, a folder; tables that are gone on with."""

import csv
import json

import pytest
from PIL import Image

NETWORK = """
import torch
from torch import nn
from saywhy.models import Preprocess
from saywhy.tasks.counting.counter import Counter, counter_model
from saywhy.tasks.counting.features import PooledCells
from saywhy.tasks.counting.intervals import CountErrors, ErrorRange
from saywhy.tasks.counting.networks import AssociativeSubitizing

labels = ["cat", "dog", "mug"]
input_size = 16
output = "counts"

def network():
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    head = AssociativeSubitizing(6, 3, 2, hidden=8)
    with torch.no_grad():
        head.net[-1].bias.copy_(torch.tensor([0.5, 0.3, -2.0]))
    return Counter(PooledCells(trunk, 2), head, errors=CountErrors((ErrorRange(0, -1, 1, 500),)))
"""


@pytest.fixture
def model(here) -> str:
    (here / "counter.py").write_text(NETWORK)
    return "counter.py:network"


def test_one_image_is_counted_and_explained(run, model, noise, tmp_path):
    ran = run("count", noise, "-m", model, "--of", "animals", "--of", "mugs", "-o", "why.html")
    assert ran.code == 0, ran.err
    assert "animals" in ran.out
    page = (tmp_path / "why.html").read_text()
    assert "animals" in page
    found = json.loads(run("count", noise, "-m", model, "--of", "mug", "--json").out)
    assert [one["name"] for one in found["counts"]] == ["cat", "dog", "mug"]
    assert found["explained"][0]["interval"]["coverage"] == 0.9
    assert len(found["explained"][0]["cells"]) == 2
    assert [one["target"] for one in found["maps"]] == ["mug"]
    for suffix in (".png", ".npz"):
        assert run("count", noise, "-m", model, "-o", f"a{suffix}").code == 0
        assert (tmp_path / f"a{suffix}").stat().st_size > 1000


def test_several_images_are_on_one_page_with_totals(run, model, tmp_path):
    ran = run("count", "photos", "-m", model, "-o", "all.html")
    assert ran.code == 0, ran.err
    assert "Totals of 3 images" in (tmp_path / "all.html").read_text()


@pytest.mark.parametrize("name", ["counts.csv", "counts.json"])
def test_a_folder_gives_a_table_that_is_gone_on_with(run, model, tmp_path, monkeypatch, name):
    first = run("count", "photos/a.png", "-m", model, "-o", name)
    assert first.code == 0, first.err
    import saywhy.tasks.counting.count_folder as module

    counted, plain = [], module._of_batch
    monkeypatch.setattr(module, "_of_batch", lambda m, paths, *rest: (counted.extend(paths), plain(m, paths, *rest))[1])
    ran = run("count", "photos", "-m", model, "-o", name, "--of", "cat")
    assert ran.code == 0, ran.err
    assert sorted(counted) == ["photos/b.jpg", "photos/deep/a.png"]
    assert ran.out.splitlines()[-1].startswith("total")
    if name.endswith("csv"):
        rows = list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        assert [row["image"] for row in rows] == ["photos/a.png", "photos/b.jpg", "photos/deep/a.png", "total"]
        assert int(rows[-1]["cat"]) == sum(int(row["cat"]) for row in rows[:-1])
    else:
        record = json.loads((tmp_path / name).read_text())
        assert record["total"] == sum(one["total"] for one in record["images"])
    (tmp_path / "photos" / "a.png").write_bytes((tmp_path / "photos" / "b.jpg").read_bytes())
    counted.clear()
    assert run("count", "photos", "-m", model, "-o", name).code == 0
    assert counted == ["photos/a.png"]


def test_ctrl_c_keeps_what_is_done(run, model, tmp_path, monkeypatch):
    import saywhy.tasks.counting.count_folder as module

    plain = module._of_batch

    def stopped(m, paths, *rest):
        if "photos/deep/a.png" in paths:
            raise KeyboardInterrupt
        return plain(m, paths, *rest)

    monkeypatch.setattr(module, "_of_batch", stopped)
    ran = run("count", "photos", "-m", model, "-o", "c.csv", "--batch-size", 1)
    assert ran.code == 130
    assert "stopped after 2 of 3 images. The same command goes on." in ran.err
    assert len(list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))) == 3
    monkeypatch.setattr(module, "_of_batch", plain)
    assert run("count", "photos", "-m", model, "-o", "c.csv").code == 0
    assert len(list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))) == 4


def test_a_plural_is_the_row_of_its_class(run, model, noise):
    ran = run("count", noise, "-m", model, "--of", "cats", "--of", "cats and dogs", "-o", "a.png")
    rows = [line.split()[1:3] for line in ran.out.splitlines()]
    assert sum(row[0] in ("cat", "cats") and row[1] != "and" for row in rows) == 2  # of the counts, and of the maps
    assert "cats and dogs: cat, dog together" in ran.err
    assert "probability" not in ran.out


def test_tables_name_the_images_that_were_left_out(run, model, tmp_path):
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    for name in ("c.csv", "c.json"):
        assert run("count", "photos", "-m", model, "-o", name).code == 1
        assert run("count", "photos", "-m", model, "-o", name).code == 1  # the table is read and gone on with
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert [row["image"] for row in rows if not row["total"]] == ["photos/bad.png"]
    assert list(json.loads((tmp_path / "c.json").read_text())["failed"]) == ["photos/bad.png"]


def test_damaged_images_are_named_and_the_others_counted(run, model, tmp_path):
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    for words in (("-o", "c.csv"), ("-o", "c.html")):
        ran = run("count", "photos", "-m", model, *words)
        assert ran.code == 1
        assert "bad.png" in ran.err
        assert (tmp_path / words[1]).exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--of", "mugz"), "no class is named by 'mugz'; nearest: 'mug'"),
        (("-o", "x.txt"), "expected .csv, .json, .html, .png, .jpg or .npz"),
        (("-o", "x.csv", "--method", "gradcam"), "a table has counts only"),
        (("-o", "mine.csv"), "is no table of counts that was written here"),
        (("-m", "mine.py:network"), "is a count"),
        (("--ask", "what colour is the cat?"), "is not answered by counting: it does not begin with 'how many'"),
        (("--ask", "how many red cats?"), "cannot restrict 'cats' by 'red'"),
        (("--ask", "how many zebras?"), "no class is named by"),
        (("--boxes", "toybox:val"), "has no boxes of"),
        (("-m", "mine.py:network", "--influence"), "is a count"),
        (("-o", "x.csv", "--influence"), "a table has counts only"),
    ],
)
def test_invalid_arguments_fail_with_a_message(run, model, noise, tmp_path, words, says):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    ran = run("count", noise, *(("-m", model) if "-m" not in words else ()), *words)
    assert ran.code == 1
    assert says in ran.err


def voc(folder, marked: str = "", **boxes) -> str:
    """Write the images of photos/ as a data set of boxes; objects of the label ``marked`` are marked as difficult."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / "voc" / part).mkdir(parents=True)
    for name, rows in boxes.items():
        (image,) = (folder / "photos").glob(f"{name}.*")
        with Image.open(image) as opened:
            size = f"<size><width>{opened.width}</width><height>{opened.height}</height><depth>3</depth></size>"
        (folder / "voc" / "JPEGImages" / image.name).write_bytes(image.read_bytes())
        corners = ("xmin", "ymin", "xmax", "ymax")
        objects = "".join(
            f"<object><name>{label}</name><difficult>{int(label == marked)}</difficult><bndbox>"
            + "".join(f"<{corner}>{edge}</{corner}>" for corner, edge in zip(corners, box, strict=True))
            + "</bndbox></object>"
            for label, *box in rows
        )
        (folder / "voc" / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (folder / "voc" / "ImageSets" / "Main" / "val.txt").write_text("\n".join(boxes))
    return f"voc:{folder / 'voc'}:val"


def test_objects_with_known_boxes_are_listed_and_drawn(run, model, tmp_path):
    data = voc(tmp_path, a=[("cat", 1, 1, 8, 8), ("zebra", 2, 2, 5, 5), ("dog", 3, 3, 22, 12)], b=[])
    ran = run("count", "photos/a.png", "photos/b.jpg", "-m", model, "--boxes", data, "-o", "o.html")
    assert ran.code == 0, ran.err
    assert "a.png: 2 objects:" in ran.err
    assert "b.jpg: 0 objects: 0 counted, 0 missed, 0 twice." in ran.err
    page = (tmp_path / "o.html").read_text()
    assert "0 0 8 8" in page
    assert page.count("<h3>Objects</h3>") == 2
    found = json.loads(run("count", "photos/a.png", "-m", model, "--boxes", data, "--json").out)
    assert [(one["name"], one["box"]) for one in found["objects"]] == [("cat", [0, 0, 8, 8]), ("dog", [2, 2, 22, 12])]
    cat, dog = found["objects"]
    assert (cat["state"], cat["weight"]) == ("missed", 0)  # the network sees columns 10 to 50
    assert dog["weight"] != 0
    assert run("count", "photos/a.png", "-m", model, "--boxes", data, "-o", "o.png").code == 0


def test_objects_marked_as_difficult_are_left_out_and_said(run, model, tmp_path):
    data = voc(tmp_path, "dog", a=[("cat", 1, 1, 8, 8), ("dog", 3, 3, 22, 12)])
    ran = run("count", "photos/a.png", "-m", model, "--boxes", data, "--json")
    assert [one["name"] for one in json.loads(ran.out)["objects"]] == ["cat"]
    assert "a.png: 1 object marked as difficult or as a crowd is left out" in ran.err


def test_boxes_of_an_image_of_another_size_are_refused(run, model, tmp_path):
    data = voc(tmp_path, a=[("cat", 1, 1, 8, 8)])
    (tmp_path / "other").mkdir()
    Image.new("RGB", (7, 9)).save(tmp_path / "other" / "a.png")
    ran = run("count", "other/a.png", "-m", model, "--boxes", data)
    assert ran.code == 1
    assert "has 7 × 9 pixels, and the image 'a' of" in ran.err


def test_two_images_of_one_name_cannot_be_found_in_a_data_set(run, model, tmp_path):
    data = voc(tmp_path, a=[("cat", 1, 1, 8, 8)])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes((tmp_path / "photos" / "a.png").read_bytes())
    ran = run("count", "photos/a.png", "other/a.png", "-m", model, "--boxes", data)
    assert ran.code == 1
    assert "have the same name" in ran.err


def test_image_that_is_given_twice_is_counted_once(run, model, tmp_path):
    assert run("count", "photos", "photos/a.png", "-m", model, "-o", "t.json").code == 0
    images = [row["image"] for row in json.loads((tmp_path / "t.json").read_text())["images"]]
    assert len(images) == len(set(images))


def test_table_tells_of_images_that_a_demo_model_does_not_know(run, tmp_path):
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "noise.png")
    ran = run("count", "noise.png", "-o", "t.csv")
    assert ran.code == 0, ran.err
    assert "noise.png: this model knows only drawn" in ran.err


def test_questions_are_answered_by_counting(run, model, noise, tmp_path):
    asked = ("--ask", "How many animals are there?", "--ask", "what is the number of mugs")
    ran = run("count", noise, "-m", model, *asked, "-o", "a.html")
    assert ran.code == 0, ran.err
    assert "cat, dog" in ran.out
    page = (tmp_path / "a.html").read_text()
    assert "How many animals are there?" in page
    assert "<td>cat, dog</td>" in page
    found = json.loads(run("count", noise, "-m", model, *asked, "--json").out)
    by_name = {one["name"]: one["count"] for one in found["counts"]}
    assert [(one["answer"], one["counted"]) for one in found["answers"]] == [
        (by_name["cat"] + by_name["dog"], ["cat", "dog"]),
        (by_name["mug"], ["mug"]),
    ]


def test_question_that_is_not_answered_does_not_stop_the_others(run, model, noise):
    ran = run("count", noise, "-m", model, "--ask", "how many cats?", "--ask", "how many red cats?", "--json")
    assert ran.code == 0, ran.err
    assert [one["question"] for one in json.loads(ran.out)["answers"]] == ["how many cats?"]
    assert "cannot restrict 'cats' by 'red'" in ran.err


def test_influence_is_drawn_for_each_explained_count(run, model, noise, tmp_path):
    ran = run("count", noise, "-m", model, "--of", "animals", "--influence", "-o", "i.html")
    assert ran.code == 0, ran.err
    assert "influence matrix of the cells of animals" in (tmp_path / "i.html").read_text()
    found = json.loads(run("count", noise, "-m", model, "--of", "animals", "--influence", "--json").out)
    assert [len(row) for row in found["influence"][0]] == [4] * 4
