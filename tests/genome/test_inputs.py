"""Whatever a file is wrapped in, its plain bytes come out, and a damaged wrapping is told."""

import gzip
import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import read_chunks, read_records, scan
from dnabert2_jax.genome.inputs import is_bgzip, open_input, peek_stored

FASTA = b">a\nACGT\n>b\nggnn\n"


@pytest.fixture
def pipe_in(monkeypatch):
    """pipe_in(data): makes `data` the standard input."""

    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def wrappings(data: bytes, bgzip) -> dict[str, bytes]:
    half = len(data) // 2
    return {
        "plain": data,
        "gzip": gzip.compress(data, mtime=0),
        "gzip in two members": gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0),
        "gzip with padding": gzip.compress(data, mtime=0) + bytes(100),
        "bgzip": b"".join(bgzip(data, 5)),
        "two bgzip files": b"".join(bgzip(data[:half]) + bgzip(data[half:])),
    }


@pytest.mark.parametrize("wrapping", wrappings(b"", lambda *_: []))
def test_every_wrapping_gives_the_plain_bytes(tmp_path, pipe_in, bgzip, wrapping):
    data = wrappings(FASTA, bgzip)[wrapping]
    path = tmp_path / "any name"
    path.write_bytes(data)
    with open_input(path) as file:
        assert file.name == str(path)
        assert file.peek().startswith(b">a")
        assert file.read() == FASTA
    pipe_in(data)
    with open_input("-") as file:
        assert file.name == "standard input"
        assert file.read() == FASTA
    assert not sys.stdin.closed
    assert is_bgzip(peek_stored(path)) == ("bgzip" in wrapping)


@given(st.binary(max_size=300), st.integers(1, 100))
def test_bgzip_of_any_bytes(tmp_path_factory, bgzip, data, block):
    path = tmp_path_factory.mktemp("bgzip") / "data"
    path.write_bytes(b"".join(bgzip(data, block)))
    with open_input(path) as file:
        assert file.read() == data


def test_records_and_chunks_come_from_standard_input(pipe_in):
    pipe_in(gzip.compress(FASTA, mtime=0))
    assert [(record.name, record.sequence) for record in read_records("-")] == [("a", "ACGT"), ("b", "ggnn")]
    pipe_in(FASTA)
    assert [chunk.bases.tobytes() for chunk in read_chunks("-")] == [b"ACGT", b"GGNN"]


def test_a_pipe_that_trickles_is_read_to_its_end(start_python):
    reader = start_python(
        "from dnabert2_jax.genome.fasta import read_records\n"
        "import subprocess, sys\n"
        'script = \'printf ">"; sleep 0.1; printf "a\\\\nAC"; sleep 0.1; printf GT\'\n'
        "writer = subprocess.Popen(['sh', '-c', script], stdout=subprocess.PIPE)\n"
        "sys.stdin = open(writer.stdout.fileno())\n"
        "print([(r.name, r.sequence) for r in read_records('-')])\n"
    )
    output, errors = reader.communicate(timeout=60)
    assert (output, errors) == ("[('a', 'ACGT')]\n", "")


def test_messages_say_standard_input(pipe_in):
    pipe_in(b">a\nACGT\n>b\nACQ\n")
    with pytest.raises(UserError, match=r"^standard input: record 'b', line 4: 'Q'"):
        list(read_records("-"))
    pipe_in(gzip.compress(FASTA, mtime=0)[:-4])
    with pytest.raises(UserError, match=r"^standard input: the gzip data is truncated"):
        list(read_records("-"))
    pipe_in(b"")
    with pytest.raises(UserError, match=r"^standard input: is empty"):
        list(read_chunks("-"))


def test_a_closed_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input: is closed"):
        list(read_records("-"))


def test_what_reads_twice_refuses_standard_input(pipe_in):
    pipe_in(FASTA)
    with pytest.raises(UserError, match=r"standard input: can be read only once.*save it as a file"):
        scan("-")


def test_an_open_reader_is_left_open(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(FASTA)
    with open_input(path) as file:
        with open_input(file) as same:
            assert same is file
        assert [record.name for record in read_records(file)] == ["a", "b"]
        assert not file.closed


def test_bgzip_cut_between_blocks_is_refused_and_gzip_has_no_such_mark(tmp_path, bgzip):
    path = tmp_path / "genome.fa.gz"
    for kept in range(1, len(bgzip(FASTA, 5))):
        path.write_bytes(b"".join(bgzip(FASTA, 5)[:kept]))
        with pytest.raises(UserError, match=r"genome\.fa\.gz: the bgzip data is truncated \(its last block"):
            list(read_chunks(path))
    path.write_bytes(gzip.compress(FASTA[:8], mtime=0))
    assert [chunk.contig for chunk in read_chunks(path)] == ["a"]


def test_bgzip_cut_anywhere_else_is_refused(tmp_path, bgzip):
    path = tmp_path / "genome.fa.gz"
    whole = b"".join(bgzip(FASTA, 5))
    for length in range(18, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated"):
            list(read_chunks(path))


@pytest.mark.parametrize("name", ["nothing", "folder", "nul\0"])
def test_what_cannot_be_opened_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    path = os.path.join(tmp_path, name)
    with pytest.raises(UserError, match=r"cannot be read|is a folder"), open_input(path):
        pass
