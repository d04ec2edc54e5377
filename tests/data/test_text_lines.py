import gzip
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert2_jax.data import text_lines
from dnabert2_jax.data.text_lines import read_text_chunks
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import acgt_stretches

here = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
line = st.text(st.sampled_from("ACGTacgtN"), max_size=30)
texts = st.tuples(st.lists(line, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda parts: parts[1].join(parts[0]) + (parts[1] if parts[2] else "")
)


def runs(path, **settings) -> list[tuple[int, str]]:
    """Start and letters of every stretch."""
    chunks = read_text_chunks(path, **settings)
    return [
        (stretch.start, stretch.bases.tobytes().decode())
        for stretch in acgt_stretches(chunks, length=1000, minimum=1)
    ]


@pytest.fixture(params=[1 << 20, 7], ids=["large blocks", "small blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(text_lines, "_BLOCK", request.param)


@pytest.mark.usefixtures("blocks")
class TestStretches:
    @here
    @given(texts.filter(len))
    def test_lines_are_split_at_other_letters(self, tmp_path, text):
        (tmp_path / "t.txt").write_bytes(text.encode())
        expected = [(run.start(), run[0].upper()) for run in re.finditer("[ACGTacgt]+", text)]
        assert runs(tmp_path / "t.txt") == expected

    @here
    @given(texts.filter(len))
    def test_or_dropped(self, tmp_path, text):
        (tmp_path / "t.txt").write_bytes(text.encode())
        expected = [
            (found.start(), found[0].upper())
            for found in re.finditer("[^\r\n]+", text)
            if "N" not in found[0]
        ]
        assert runs(tmp_path / "t.txt", drop_impure_lines=True) == expected

    def test_gzip_and_lower_case_and_rna(self, tmp_path):
        (tmp_path / "t.txt.gz").write_bytes(gzip.compress(b"ACGT\nacgU\n", mtime=0))
        with pytest.warns(UserWarning, match="line 2: has the letter U"):
            chunks = list(read_text_chunks(tmp_path / "t.txt.gz"))
        assert b"".join(chunk.bases.tobytes() for chunk in chunks) == b"ACGT\nACGT\n"
        mask = np.concatenate([chunk.soft_mask for chunk in chunks])
        assert np.flatnonzero(mask).tolist() == [5, 6, 7]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b">seq\nACGT\n", "line 1: begins with '>' as FASTA does"),
            (b"ACGT\nACGT\nAC,GT\n", "line 3: ',' is no IUPAC nucleotide code"),
            (b"ACGT\nMKVLQ\n", "line 2: 'L' is no IUPAC nucleotide code"),
            (b"ACGT\n\xff\n", "line 2: byte 0xff is no IUPAC nucleotide code"),
            (gzip.compress(b"ACGT\n" * 1000, mtime=0)[:-12], "truncated or damaged"),
        ],
    )
    @pytest.mark.parametrize("drop_impure_lines", [False, True])
    def test_what_is_refused(self, tmp_path, content, message, drop_impure_lines):
        (tmp_path / "t.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            list(read_text_chunks(tmp_path / "t.txt", drop_impure_lines=drop_impure_lines))
