"""``saywhy score-counts``: errors on boxes, F scores of a detector, and questions of VQA and COCO-QA."""

import json
import math

import pytest
from PIL import Image

# Four columns of an image: a column with red from 0.45 on is a cat in the left half, a mug in the right half.
NETWORK = """
import torch
from torch import nn
from saywhy.models import Preprocess

labels = ["cat", "mug", "dog"]
preprocess = Preprocess((20, 40), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

def reds(image):
    return image[:, 0].unflatten(2, (4, -1)).mean((1, 3))

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, image):
        seen = (reds(self.features(image)) >= 0.45).float()
        return {"counts": torch.stack([seen[:, :2].sum(1), seen[:, 2:].sum(1), 0 * seen.sum(1)], 1)}

class Detecting(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, image):
        width, height = image.shape[3] / 4, float(image.shape[2])
        boxes = torch.tensor([[n * width, 0, (n + 1) * width, height] for n in range(4)])
        labels = torch.tensor([0, 0, 1, 1])
        return [{"boxes": boxes, "scores": one, "labels": labels} for one in reds(self.features(image))]

def counter():
    return Counting()

def detector():
    return Detecting()
"""

IMAGES = {"COCO_val2014_000000000007": (0.9, 0.2, 0.6, 0.5), "COCO_val2014_000000000008": (0.3, 0.1, 0.2, 0.8)}


@pytest.fixture(autouse=True)
def files(here):
    (here / "net.py").write_text(NETWORK)
    for split, images in (("test", IMAGES), ("val", {"v": (0.9, 0.05, 0.6, 0.5)})):
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (here / split / part).mkdir(parents=True)
        for name, shades in images.items():
            made = Image.new("RGB", (80, 20))
            for number, shade in enumerate(shades):
                made.paste((round(255 * shade), 0, 0), (20 * number, 0, 20 * number + 20, 20))
            made.save(here / split / "JPEGImages" / f"{name}.png")
            # The true objects: of the first two columns from 0.25 on, of the others from 0.45 on.
            objects = "".join(
                f"<object><name>{'cat' if n < 2 else 'mug'}</name><bndbox><xmin>{20 * n + 1}</xmin><ymin>1</ymin>"
                f"<xmax>{20 * n + 20}</xmax><ymax>20</ymax></bndbox></object>"
                for n, shade in enumerate(shades)
                if shade >= (0.25 if n < 2 else 0.45)
            )
            size = "<size><width>80</width><height>20</height><depth>3</depth></size>"
            (here / split / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        (here / split / "ImageSets" / "Main" / "val.txt").write_text("\n".join(images))
    return here


def scores(run, *words):
    ran = run("score-counts", *words, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_errors_are_those_of_the_counts(run):
    """The counter misses one cat (0.3) of two; all mugs are counted; there is no dog in the data set."""
    found = scores(run, "voc:test:val", "-m", "net.py:counter")
    (errors,) = found["errors"]
    assert errors["mRMSE"] == pytest.approx((math.sqrt(1 / 2) + 0) / 2)
    assert errors["mRMSE-nz"] == pytest.approx((math.sqrt(1 / 2) + 0) / 2)
    assert [(one["class"], one["objects"], one["counted"]) for one in found["classes"]] == [
        ("cat", 2, 1),
        ("mug", 3, 3),
    ]
    shown = run("score-counts", "voc:test:val", "-m", "net.py:counter").out
    assert "0.354" in shown


def test_counts_choose_the_operating_point_of_a_detector(run):
    """One threshold a class is tuned on one image, so that it misses the faint cat; so do predicted counts."""
    words = ("-m", "net.py:counter", "--detector", "net.py:detector", "--validation", "voc:val:val")
    found = {one["boxes kept by"]: one for one in scores(run, "voc:test:val", *words)["detection"]}
    assert found["true counts"]["F"] == 1
    assert found["predicted counts"] == {
        "boxes kept by": "predicted counts",
        "boxes": 4,
        "precision": 1,
        "recall": 0.75,
        "F": pytest.approx((2 / 3 + 1) / 2),
    }
    assert found["threshold"]["F"] < 1


def write_vqa(folder, rows):
    questions = [{"question_id": n, "image_id": i, "question": q} for n, (i, q, _) in enumerate(rows)]
    annotations = [
        {
            "question_id": n,
            "image_id": i,
            "question_type": "how many",
            "answer_type": "number",
            "multiple_choice_answer": a,
            "answers": [{"answer": a, "answer_id": k} for k in range(1, 11)],
        }
        for n, (i, _, a) in enumerate(rows)
    ]
    (folder / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": questions}))
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))


ASKED = [
    (7, "How many cats are there?", "1"),
    (8, "How many cats are there?", "1"),
    (7, "How many red mugs are there?", "2"),
    (7, "How many zebras are there?", "0"),
    (7, "What is it?", "cat"),
    (9, "How many mugs are there?", "3"),
]


def test_questions_of_vqa_are_scored_by_bucket(run, files):
    write_vqa(files, ASKED)
    (files / "r.json").write_text(json.dumps([{"question_id": n, "answer": "3"} for n in range(len(ASKED))]))
    words = ("--questions", "q.json", "--annotations", "a.json", "--images", "test/JPEGImages", "-m", "net.py:counter")
    ran = run("score-counts", *words, "--answers", "r.json", "--json")
    assert ran.code == 0, ran.err
    assert "1 of 5 questions left out: their images are not there" in ran.err
    found = {one["bucket"]: one for one in json.loads(ran.out)["questions"]}
    assert (found["class"]["questions"], found["class"]["rmse"]) == (2, pytest.approx(math.sqrt(1 / 2)))
    assert found["class"]["other_rmse"] == 2
    assert (found["attribute"]["questions"], found["unmatched"]["questions"]) == (1, 1)
    assert "class" in run("score-counts", *words).out


def test_questions_of_coco_qa_are_scored(run, files):
    (files / "qa").mkdir()
    rows = [
        ("how many cats lie on the sofa", "two", 7, 1),
        ("how many mugs are there", "two", 7, 1),
        ("what", "cat", 7, 0),
    ]
    for name, column in (("questions", 0), ("answers", 1), ("img_ids", 2), ("types", 3)):
        (files / "qa" / f"{name}.txt").write_text("\n".join(str(row[column]) for row in rows) + "\n")
    found = scores(run, "--questions", "qa", "--images", "test/JPEGImages", "-m", "net.py:counter")["questions"]
    assert {one["bucket"]: (one["questions"], one["rmse"]) for one in found if one["bucket"] == "class"} == {
        "class": (1, 0)
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either DATA"),
        (("voc:test:val", "--questions", "q.json", "--images", "test"), "give either DATA"),
        (("--questions", "q.json"), "--questions and --images belong together"),
        (("voc:test:val", "--answers", "q.json"), "need them"),
        (("voc:test:val", "--detector", "net.py:detector"), "--detector and --validation belong together"),
        (("--questions", "q.json", "--images", "test"), "give --annotations FILE"),
        (("--questions", "q.json", "--annotations", "a.json", "--images", "val"), "has none of the images"),
        (("toybox:val", "-m", "net.py:detector", "--difficult", "some"), "difficult must be"),
    ],
)
def test_invalid_arguments_fail_with_a_message(run, files, words, says):
    write_vqa(files, ASKED)
    ran = run("score-counts", *words, *(() if "-m" in words else ("-m", "net.py:counter")))
    assert ran.code == 1
    assert says in ran.err


def coco(folder, *boxes, crowd=()):
    """Write one image of 80 x 20 pixels with boxes (label, x, y, width, height) in COCO's layout; mugs are class 2."""
    (folder / "c" / "annotations").mkdir(parents=True)
    (folder / "c" / "val2017").mkdir()
    Image.new("RGB", (80, 20), (255, 0, 0)).save(folder / "c" / "val2017" / "000000000001.png")
    names = {"cat": 1, "mug": 2, "dog": 3}
    record = {
        "images": [{"id": 1, "file_name": "000000000001.png", "width": 80, "height": 20}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": names[label], "bbox": box, "iscrowd": int(n in crowd)}
            for n, (label, *box) in enumerate(boxes)
        ],
        "categories": [{"id": number, "name": name} for name, number in names.items()],
    }
    (folder / "c" / "annotations" / "instances_val2017.json").write_text(json.dumps(record))
    return f"coco:{folder / 'c'}:val2017"


def test_a_class_without_an_object_is_said_and_nothing_is_divided_by_zero(run, files):
    data = coco(files, ("cat", 0, 0, 20, 20), ("cat", 20, 0, 20, 20), ("mug", 40, 0, 20, 20))
    ran = run("score-counts", data, "-m", "net.py:counter", "--json")
    assert ran.code == 0, ran.err
    assert "NaN" not in ran.out
    found = json.loads(ran.out)
    (errors,) = found["errors"]
    assert errors["mRMSE"] == pytest.approx(1 / 3)  # one mug too many, over three classes
    assert errors["mRMSE-nz"] == pytest.approx(1 / 2)  # over the two that occur
    assert [one["RMSE-nz"] for one in found["classes"]] == [0, 1, None]
    assert "positive" in ran.err
    crowd = coco(files / "crowd", ("cat", 0, 0, 20, 20), crowd=(0,))
    (nothing,) = scores(run, crowd, "-m", "net.py:counter", "--difficult", "leave-out")["errors"]
    assert nothing == {"images": 1, "mRMSE": pytest.approx(4 / 3), "m-relRMSE": pytest.approx(4 / 3)}


@pytest.mark.parametrize(
    ("boxes", "crowd", "says"),
    [
        ([("cat", 200, 0, 20, 20)], (), "outside"),
        ([("cat", 5, 5, 0, 10)], (), "(5, 5, 5, 15), the last two exclusive. Correct or remove it."),
        ([("cat", 5, 5, -4, 10)], (), "(5, 5, 1, 15), the last two exclusive. Correct or remove it."),
        ([("cat", 0, 0, 20, 20)], (0,), "marked as difficult or as a crowd: cat (1). Say whether"),
    ],
)
def test_boxes_that_are_no_objects_are_refused(run, files, boxes, crowd, says):
    data = coco(files, *boxes, crowd=crowd)
    for words in (
        ("score-counts", data),
        ("train", "counter", "--data", data, "--validation", data, "-o", "x.safetensors"),
    ):
        ran = run(*words, *(("-m", "net.py:counter") if words[0] == "score-counts" else ()))
        assert ran.code == 1
        assert says in ran.err


def test_crowds_count_as_one_or_are_left_out(run, files):
    data = coco(files, ("cat", 0, 0, 20, 20), ("cat", 20, 0, 20, 20), crowd=(1,))
    for choice, objects in (("count", 2), ("leave-out", 1)):
        found = scores(run, data, "-m", "net.py:counter", "--difficult", choice)
        assert found["classes"][0]["objects"] == objects
