import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.reports import palette
from dnabert2_jax.reports.page import Page
from dnabert2_jax.reports.plots import line_plot

HOSTILE = "<script>alert(\"1\")</script> & 'x' </title></style>"


def test_a_page_with_everything(tmp_path, read_page):
    page = Page("A run", "of something")
    page.headline({"loss": "4.2"})
    page.heading("Numbers")
    page.text("First.", "Second.")
    page.remark("Look.")
    page.facts({"steps": 500_000, "rate": 5e-4, "lora": False})
    page.table(["species", "bases", "share"], [["E. coli", 4641652, 0.25], ["yeast", 12157105, None]])
    page.heading("Part", level=3)
    page.code("dnabert2 doctor --debug")
    page.link("the model", "model/config.json")
    page.figure(line_plot({"loss": ([1, 2], [3, 4])}, "step", "loss"), "A curve.")
    page.write(tmp_path / "runs" / "report.html")

    read = read_page(tmp_path / "runs" / "report.html")
    assert read.headings == [(1, "A run"), (2, "Numbers"), (3, "Part")]
    assert read.tables == [
        [["species", "bases", "share"], ["E. coli", "4,641,652", "0.2500"], ["yeast", "12,157,105", "–"]]
    ]
    assert read.links == ["model/config.json"]
    assert read.figures == ["A curve."]
    for text in ("of something", "loss 4.2", "First. Second. Look.", "steps 500,000", "lora no", "--debug"):
        assert text in read.text


def test_all_text_is_escaped(tmp_path, read_page):
    page = Page(HOSTILE, HOSTILE)
    page.heading(HOSTILE)
    page.text(HOSTILE)
    page.remark(HOSTILE)
    page.headline({HOSTILE: HOSTILE})
    page.facts({HOSTILE: HOSTILE})
    page.table([HOSTILE, "n"], [[HOSTILE, 1]])
    page.code(HOSTILE)
    page.link(HOSTILE, 'a"onclick="x')
    page.figure(line_plot({HOSTILE: ([1], [1]), "b": ([1], [2])}, HOSTILE, HOSTILE), HOSTILE)
    page.write(tmp_path / "report.html")
    read = read_page(tmp_path / "report.html")
    assert read.headings[0] == (1, HOSTILE)
    assert read.figures == [HOSTILE]
    assert read.tables[0][1] == [HOSTILE, "1"]


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_any_text_gives_a_page_that_can_be_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("page") / "report.html"
    page = Page(text, text)
    page.facts({text: text})
    page.write(path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_numbers_stand_on_the_right():
    page = Page("t")
    page.table(["name", "n"], [["a", 1], ["b", None]])
    assert '<th scope="col">name</th><th scope="col" class="number">n</th>' in page.html()
    assert '<th scope="row">a</th><td class="number">1</td>' in page.html()


def test_tables_without_rows_and_with_many():
    page = Page("t")
    page.table(["a"], [])
    assert "<table" not in page.html()
    page.table(["a"], [[n] for n in range(26)])
    assert "<summary>26 rows</summary>" in page.html()
    with pytest.raises(ValueError, match="1 cells"):
        page.table(["a"], [[1, 2]])


def test_the_same_plot_twice_has_ids_of_its_own(tmp_path, read_page):
    svg = line_plot({"loss": ([1, 2], [3, 4])}, "step", "loss")
    page = Page("t")
    page.figure(svg, "one")
    page.figure(svg, "two")
    page.write(tmp_path / "report.html")
    assert read_page(tmp_path / "report.html").figures == ["one", "two"]
    assert page.html().count('<div class="figures">') == 1


@pytest.mark.parametrize("href", ["https://example.org", "//example.org/x", "/etc/passwd", "javascript:x"])
def test_links_stay_near_the_page(href):
    with pytest.raises(ValueError, match="relative"):
        Page("t").link("away", href)


def test_a_page_cannot_replace_a_folder(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        Page("t").write(tmp_path)


def test_colours_can_be_read_on_light_and_on_dark_paper():
    for dark in (False, True):
        paper, ink, heat = (pair[dark] for pair in (palette.PAPER, palette.INK, palette.HEAT))
        assert min(_contrast(pair[dark], paper) for pair in palette.SERIES) >= 3
        assert _contrast(ink, paper) >= 7
        assert _contrast(ink, heat) >= 4.5


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio" and "relative luminance"."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
