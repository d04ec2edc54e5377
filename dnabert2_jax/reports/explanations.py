"""The page about explanations: what was computed and its pictures, all of it plain data, in; HTML out."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dnabert2_jax.reports.page import Page


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      heading: above it.
      facts: names and values.
      pictures: `<svg>` elements with what they show.
    """

    heading: str
    facts: Mapping[str, Any]
    pictures: Sequence[tuple[str, str]]


def write_explanations(
    path: str | os.PathLike,
    title: str,
    facts: Mapping[str, Any],
    remarks: Sequence[str],
    meaning: Sequence[str],
    sections: Sequence[Section],
) -> None:
    """Writes the page.

    Args:
      path: the HTML file.
      title: the page's.
      facts: about all of it.
      remarks: what should not be missed.
      meaning: paragraphs on how to read the pictures.
      sections: in their order.

    Raises:
      UserError: `path` cannot be written.
    """
    page = Page(title, "What a model looks at")
    page.facts(facts)
    for remark in remarks:
        page.remark(remark)
    page.text(*meaning)
    for section in sections:
        page.heading(section.heading)
        if section.facts:
            page.facts(section.facts)
        for svg, caption in section.pictures:
            page.figure(svg, caption)
    page.write(path)
