"""Pages as a browser is to find them: valid HTML that stands by itself."""

import re
from typing import Any

from tinyhtml5.parser import HTMLParser

_ADDRESSES = {"href", "src", "srcset", "action", "data", "poster", "{http://www.w3.org/1999/xlink}href"}


def check_html(html: str) -> None:
    """Fails where HTML has a mistake, an id is there twice, or something comes from outside."""
    parser = HTMLParser()
    root: Any = parser.parse(html)
    assert parser.errors == []
    elements = list(root.iter())
    ids = [element.get("id") for element in elements if element.get("id") is not None]
    assert len(ids) == len(set(ids))
    for element in elements:
        tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else "comment"
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        if tag == "style":
            assert not re.search(r"url\(|@import", element.text or "")
        for name, value in element.attrib.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in _ADDRESSES:
                own = (
                    value.startswith("data:")
                    if name == "src" or tag == "image"
                    else not re.match(r"\s*([a-z]+:|//)", value)
                )
                assert own, f"{tag} has {name} {value[:60]}"
