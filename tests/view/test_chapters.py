"""A page of several chapters: one viewer and one text for each."""

import pytest

from saywhy.errors import InputError
from saywhy.view.chapters import Chapter, chapters_payload, save_chapters
from saywhy.view.report import report_html

TITLE, LEAD = "Why <so>?", "A model & its reasons."


def test_chapters_payload_has_images_and_provenance_per_chapter(explained):
    data = chapters_payload(
        TITLE, LEAD, [Chapter("one", "first", [explained()]), Chapter("two", "then", [explained(), explained()])]
    )
    assert [(c["heading"], c["text"], len(c["images"])) for c in data["chapters"]] == [
        ("one", "first", 2),
        ("two", "then", 4),
    ]
    assert set(data["provenance"]) == {"one", "two"}
    page = report_html(data)
    assert "Why &lt;so&gt;? · saywhy" in page
    assert "Why <so>" not in page


def test_chapters_payload_without_chapters_raises():
    with pytest.raises(InputError, match="at least one chapter"):
        chapters_payload(TITLE, LEAD, [])


@pytest.mark.browser
def test_chapters_have_independent_viewers(browser, explained, tmp_path):
    from viewer_page import Page, visit  # only where selenium is

    chapters = [
        Chapter("What is there?", "Three answers.", [explained()]),
        Chapter("And now?", "The same.", [explained()]),
    ]
    page: Page = visit(browser, save_chapters(TITLE, LEAD, chapters, tmp_path / "chapters.html"))
    assert page.errors() == []
    assert page.text("h1") == TITLE
    assert page.texts(".chapter > h2") == ["What is there?", "And now?"]
    assert page.texts(".lead") == [LEAD]
    assert page.run("return document.querySelectorAll('h1').length") == 1
    first, second = page.canvas(0), page.canvas(3)  # a viewer has three figures
    page.run("document.querySelectorAll('.chapter')[1].querySelectorAll('.target input')[1].click()")
    assert (page.canvas(0) == first).all()
    assert (page.canvas(3) != second).any()
