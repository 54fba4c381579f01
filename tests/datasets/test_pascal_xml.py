"""Annotations in XML: the format of VOC and ILSVRC is read, and wrong or dangerous files are refused."""

from pathlib import Path

import pytest

from saywhy.datasets.pascal_xml import AnnotatedObject, ImageAnnotation, read_annotation
from saywhy.errors import InputError

SIZE = "<size><width>500</width><height>375</height><depth>3</depth></size>"
BOUNDS = "<bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193.5</ymax></bndbox>"
CAT = f"<object><name>cat</name><pose>Left</pose><difficult>1</difficult>{BOUNDS}</object>"
PERSON = (  # VOC's layout task has boxes of parts in the boxes of people, and its edges in another order
    "<object><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    "<name> person </name><bndbox><ymax>9</ymax><xmax>8</xmax><ymin>7</ymin><xmin>6</xmin></bndbox></object>"
)


def written(folder: Path, *parts: str) -> Path:
    path = folder / "a.xml"
    path.write_text(f"<annotation>\n<filename>a</filename>{''.join(parts)}</annotation>")
    return path


def test_published_form_is_read(tmp_path: Path):
    path = written(tmp_path, SIZE, CAT, PERSON)
    assert read_annotation(path, 1) == ImageAnnotation(
        (500, 375),
        (
            AnnotatedObject(f"'{path}', object 1 ('cat')", "cat", (110, 107, 441, 193.5), True),
            AnnotatedObject(f"'{path}', object 2 ('person')", "person", (5, 6, 8, 9), False),
        ),
    )
    assert read_annotation(path, 0).objects[1].box == (6, 7, 9, 10)


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_missing_size_is_read_as_none(tmp_path: Path, size: str):
    assert read_annotation(written(tmp_path, size), 1) == ImageAnnotation(None, ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_declared_encodings_are_read(tmp_path: Path, encoding: str):
    path = tmp_path / "a.xml"
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    whole = f'<?xml version="1.0" encoding="{name}"?><annotation>{CAT.replace("cat", "Kätzchen &amp; Co")}</annotation>'
    path.write_bytes(whole.encode(encoding))
    assert read_annotation(path, 1).objects[0].name == "Kätzchen & Co"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("<object><name>cat</name><pose/></object>", ("object 1 ('cat')", "<bndbox>, got <name>, <pose>")),
        (CAT.replace("cat", " "), ("object 1", "needs a <name>")),
        (CAT + CAT.replace("<xmax>441</xmax>", ""), ("object 2 ('cat')", "<xmax> must be a number", "got nothing")),
        (CAT.replace("441", "wide"), ("<xmax>", "got 'wide'")),
        (CAT.replace("441", "nan"), ("<xmax>", "got 'nan'")),
        (CAT.replace("441", "1e999"), ("<xmax>", "got '1e999'")),
        (CAT.replace("<difficult>1", "<difficult>maybe"), ("<difficult> must be 0 or 1, got 'maybe'",)),
        (SIZE.replace("500", "-500"), ("<size>", "got -500 and 375", "remove <size>")),
        (SIZE.replace("500", "499.5"), ("<size>", "499.5")),
        (SIZE.replace("<width>500</width>", ""), ("<size>", "<width>", "got nothing")),
        ("<object>", ("is no XML that can be read", "mismatched tag")),
        ("&nbsp;", ("is no XML that can be read", "entity")),
    ],
)
def test_invalid_elements_raise(tmp_path: Path, parts: str, words: tuple[str, ...]):
    with pytest.raises(InputError) as caught:
        read_annotation(written(tmp_path, parts), 1)
    for word in ("a.xml", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_unreadable_files_raise(tmp_path: Path):
    path = tmp_path / "a.xml"
    for content, words in {
        "": "no element found",
        "<html/>": "must hold <annotation>, got <html>",
        '<?xml version="1.0" encoding="klingon"?><annotation/>': "is no XML that can be read",
        '<?xml version="1.0" encoding="gb2312"?><annotation/>': "is no XML that can be read",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=words):
            read_annotation(path, 1)
    with pytest.raises(InputError, match=r"no file .*b\.xml.* Nearest in that folder: 'a\.xml'"):
        read_annotation(tmp_path / "b.xml", 1)
    with pytest.raises(InputError, match="is a folder, but the XML annotation"):
        read_annotation(tmp_path, 1)


LAUGHS = "".join(f'<!ENTITY lol{i} "{f"&lol{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE annotation [<!ENTITY lol0 "lol">{LAUGHS}]>',
        f'<!DOCTYPE annotation [<!ENTITY lol9 "{"ha" * 50_000}">]>',
        '<!DOCTYPE annotation [<!ENTITY lol9 SYSTEM "SECRET">]>',
        '<!DOCTYPE annotation SYSTEM "SECRET">',
        "<!DOCTYPE annotation>",
    ],
    ids=["billion laughs", "quadratic", "another file", "external type", "harmless"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_doctype_raises_without_being_expanded(tmp_path: Path, doctype: str, encoding: str):
    (tmp_path / "secret").write_text("a secret")
    whole = f"{doctype}<annotation><object><name>{'&lol9;' * 500}</name>{BOUNDS}</object></annotation>"
    path = tmp_path / "a.xml"
    path.write_bytes(whole.replace("SECRET", str(tmp_path / "secret")).encode(encoding))
    with pytest.raises(InputError, match=r"a\.xml' is refused: it has a document type") as caught:
        read_annotation(path, 1)
    assert "a secret" not in str(caught.value)


@pytest.mark.slow
def test_deeply_nested_xml_is_read(tmp_path: Path):
    path = written(tmp_path, "<a>" * 100_000, "</a>" * 100_000, CAT)
    assert [each.name for each in read_annotation(path, 1).objects] == ["cat"]
