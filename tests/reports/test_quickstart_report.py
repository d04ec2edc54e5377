import numpy as np
import pytest

from dnabert2_jax.reports.quickstart import write_quickstart_report

STEPS = [
    {
        "title": "Train a tokenizer",
        "command": "dnabert2 tokenizer train --fasta a.fasta --vocab-size 256 --output run/tokenizer",
        "seconds": 4.25,
        "summary": "256 tokens, 3.1 bases per token.",
    },
    {
        "title": "Pre-train & evaluate",
        "command": "dnabert2 pretrain tiny --corpus run/corpus --output run/pretrain",
        "seconds": 75,
        "summary": "200 steps.",
        "link": "pretrain/report.html",
    },
]
NEXT = [("dnabert2 doctor", "See what this machine has."), ("dnabert2 embed --input <FASTA>", "Embed.")]


def write(path, rows, **changes):
    given = {
        "steps": STEPS,
        "pretraining": {"rows": rows},
        "test": {"accuracy": 0.875, "matthews_correlation": 0.7512, "macro_f1": 0.87, "examples": 400},
        "embedding_points": np.arange(8.0).reshape(4, 2),
        "embedding_labels": [0, 1, 0, 1],
        "class_names": ["background", "promoter"],
        "next_steps": NEXT,
    }
    write_quickstart_report(path, **(given | changes))


def test_the_page_tells_what_was_done_and_what_comes_next(tmp_path, read_page, evaluation_row):
    write(tmp_path / "index.html", [evaluation_row(100), evaluation_row(200, masked_loss=5.4321)])
    page = read_page(tmp_path / "index.html")
    assert "in 2 steps, 1 min 19 s in all" in page.text
    assert (3, "1. Train a tokenizer · 4.2 s") in page.headings
    assert (3, "2. Pre-train & evaluate · 1 min 15 s") in page.headings
    for step in STEPS:
        assert step["command"] in page.text
        assert step["summary"] in page.text
    assert page.links == ["pretrain/report.html"]
    assert "test accuracy 87.5 %" in page.text
    assert "test Matthews correlation 0.751" in page.text
    assert "test examples 400" in page.text
    assert "masked loss 5.432 against 6.988" in page.text
    for command, meaning in NEXT:
        assert f"{meaning} {command}" in page.text
    assert len(page.figures) == 2


def test_a_quickstart_without_results(tmp_path, read_page):
    write(
        tmp_path / "index.html",
        [],
        steps=[],
        test={},
        embedding_points=np.zeros((0, 2)),
        embedding_labels=[],
        class_names=[],
        next_steps=[],
    )
    page = read_page(tmp_path / "index.html")
    assert "in 0 steps" in page.text
    assert "test accuracy NaN" in page.text


def test_links_must_be_relative(tmp_path):
    with pytest.raises(ValueError, match="relative"):
        write(tmp_path / "index.html", [], steps=[STEPS[0] | {"link": "https://example.org"}])
    assert list(tmp_path.iterdir()) == []
