"""A strict reader of pages, and the rows of runs that the reports are made from."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from html_pages import check_html

_VOID = {"meta", "br", "hr", "img", "input", "link"}


class ReadPage(HTMLParser):
    """Reads a page; refuses unbalanced tags, ids used twice, references to nowhere, anything from outside.

    Attributes:
      text: what a reader sees, with single spaces.
      tables: rows of cell texts, the heading row first.
      links: targets of `<a>`.
      figures: the labels of the plots.
      headings: (level, text).
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        check_html(html)
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.figures: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self._open: list[str] = []
        self._ids: list[str] = []
        self._words: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        assert len(self._ids) == len(set(self._ids))
        used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html))
        assert {one or other for one, other in used} <= set(self._ids)
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "link", "base"}
        if tag not in _VOID:
            self._open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in {"href", "src", "srcset", "xlink:href"}:
                assert not re.match(r"\s*([a-z]+:|//)", value or "", re.IGNORECASE)
            if name == "id":
                self._ids.append(value or "")
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"] or "")
        elif tag == "svg":
            assert given["role"] == "img"
            self.figures.append(given["aria-label"] or "")
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        elif re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            assert not re.search(r"url\(|@import|</", data)
            return
        self._words.append(data)
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)


@pytest.fixture
def read_page() -> Callable[[Path], ReadPage]:
    """Reads an HTML file, refusing what a page of ours must not be."""
    return lambda path: ReadPage(path.read_text(encoding="utf-8"))


@pytest.fixture
def training_row() -> Callable[..., dict[str, Any]]:
    """Makes a training row of metrics.jsonl."""

    def make(step: int, **changes: Any) -> dict[str, Any]:
        row = {
            "kind": "train",
            "step": step,
            "loss": 7.0 - step / 1000,
            "accuracy": step / 10_000,
            "learning_rate": 5e-4,
            "gradient_norm": 1.5,
            "tokens_per_second": 1000.0 + step,
            "seconds": 10.0,
        }
        return row | changes

    return make


@pytest.fixture
def evaluation_row() -> Callable[..., dict[str, Any]]:
    """Makes an evaluation row of a pre-training run's metrics.jsonl."""

    def make(step: int, **changes: Any) -> dict[str, Any]:
        row = {
            "kind": "evaluation",
            "step": step,
            "masked_loss": 6.1234,
            "masked_accuracy": 0.0456,
            "mixed_loss": 5.5678,
            "mixed_accuracy": 0.1423,
            "unigram_loss": 6.9876,
            "masked_bits_per_base": 1.7654,
            "mixed_bits_per_base": 1.6043,
            "unigram_bits_per_base": 1.9987,
        }
        return row | changes

    return make
