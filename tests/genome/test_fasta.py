"""Reading and writing FASTA, against a naive parser, and what is said about files that are not FASTA."""

import csv
import gzip
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.genome import fasta_parser
from dnabert2_jax.genome.fasta import Chunk, Contig, read_chunks, read_records, scan, write_fasta


def naive_records(text: str) -> list[tuple[str, str]]:
    records: list[tuple[str, str]] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith(">"):
            records.append((line[1:].split()[0], ""))
        elif line.strip():
            name, sequence = records[-1]
            records[-1] = (name, sequence + line.replace(" ", ""))
    return records


def assembled(chunks: list[Chunk]) -> list[tuple[str, str]]:
    """Contigs in the case of the file, and a check that each chunk starts where the last one ended."""
    contigs: list[tuple[str, str]] = []
    for chunk in chunks:
        assert chunk.bases.dtype == np.uint8
        assert chunk.soft_mask.dtype == np.bool_
        assert len(chunk.bases) == len(chunk.soft_mask)
        bases = chunk.bases.tobytes().decode()
        assert bases == bases.upper()
        cased = "".join(b.lower() if low else b for b, low in zip(bases, chunk.soft_mask, strict=True))
        if chunk.start == 0:
            contigs.append((chunk.contig, ""))
        name, before = contigs[-1]
        assert (name, len(before)) == (chunk.contig, chunk.start)
        contigs[-1] = (name, before + cased)
    return contigs


@st.composite
def fasta_texts(draw) -> str:
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    pieces = [newline] * draw(st.integers(0, 2))
    for index in range(draw(st.integers(1, 4))):
        description = draw(st.sampled_from(["", " a > b", "\tx=1", " é"]))
        pieces.append(f">{'c' * draw(st.integers(1, 8))}{index}{description}{newline}")
        sequence = draw(st.text(alphabet="ACGTacgtNnUuRYSWKMBDHVryswkmbdhv", max_size=60))
        width = draw(st.integers(1, 70))
        for start in range(0, len(sequence), width):
            pieces.append(sequence[start : start + width])
            pieces.append(draw(st.sampled_from([newline, newline, newline * 2, f" {newline}"])))
    text = "".join(pieces)
    return text.rstrip("\r\n") if draw(st.booleans()) else text


@pytest.mark.filterwarnings("ignore::dnabert2_jax.errors.InputWarning")
@settings(deadline=None)
@given(
    text=fasta_texts(), chunk_bases=st.integers(1, 50), block=st.integers(1, 40), members=st.integers(0, 3)
)
def test_any_layout_reads_as_the_naive_parser_reads_it(tmp_path_factory, text, chunk_bases, block, members):
    path = tmp_path_factory.mktemp("fasta") / "any name"
    data = text.encode()
    if members:
        bounds = [len(data) * index // members for index in range(members + 1)]
        data = b"".join(gzip.compress(data[a:b], mtime=0) for a, b in pairwise(bounds))
    path.write_bytes(data)
    as_dna = str.maketrans("Uu", "Tt")
    expected = [(name, sequence.translate(as_dna)) for name, sequence in naive_records(text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta_parser, "_BLOCK", block)
        chunks = list(read_chunks(path, chunk_bases))
        records = list(read_records(path))
    assert assembled(chunks) == expected
    assert [(record.name, record.sequence) for record in records] == expected
    full = [len(chunk.bases) for chunk, after in pairwise(chunks) if after.start]
    assert set(full) <= {chunk_bases}


def test_a_record_keeps_case_and_description(tmp_path):
    path = tmp_path / "trna.fa"
    path.write_text(">tRNA-Phe  yeast, mature \nGCGGAttt\nAG\n>empty\n>last\tx\nA")
    first, empty, last = read_records(path)
    assert (first.name, first.description, first.sequence) == ("tRNA-Phe", "yeast, mature", "GCGGAtttAG")
    assert (empty.name, empty.sequence) == ("empty", "")
    assert (last.name, last.description, last.sequence) == ("last", "x", "A")


@pytest.mark.parametrize("read", [read_chunks, read_records])
def test_rna_is_read_as_dna_with_one_notice_per_file(tmp_path, read):
    path = tmp_path / "rna.fa"
    path.write_text(">dna\nACGT\n>rna\nGCuU\nUG\n>more\nUu\n")
    with pytest.warns(InputWarning, match=r"rna\.fa: record 'rna': has the letter U") as notices:
        read_in = list(read(path))
    assert len(notices) == 1
    if read is read_records:
        assert [record.sequence for record in read_in] == ["ACGT", "GCtTTG", "Tt"]
    else:
        assert assembled(read_in) == [("dna", "ACGT"), ("rna", "GCtTTG"), ("more", "Tt")]


def test_a_contig_without_bases_is_one_empty_chunk(tmp_path):
    path = tmp_path / "empty_contigs.fa"
    path.write_text(">a\n>b\nACGT\n>c\n")
    assert [(c.contig, c.start, len(c.bases)) for c in read_chunks(path, 2)] == [
        ("a", 0, 0), ("b", 0, 2), ("b", 2, 2), ("c", 0, 0),
    ]  # fmt: skip


def test_scan_says_what_each_contig_holds(tmp_path):
    path = tmp_path / "two.fa"
    path.write_text(">a\nACGTNNacg\n>b\nRRR\n")
    assert scan(path) == [Contig("a", 9, 7, 3), Contig("b", 3, 0, 0)]


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "notepad.fa"
    path.write_bytes(b"\xef\xbb\xbf>a\r\nACGT\r\n")
    assert assembled(list(read_chunks(path))) == [("a", "ACGT")]


def test_one_long_line_takes_bounded_memory(tmp_path):
    path = tmp_path / "long.fa"
    path.write_bytes(b">a\n" + b"ACGTacgt" * 4_000_000)
    tracemalloc.start()
    bases = sum(len(chunk.bases) for chunk in read_chunks(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bases == 32_000_000
    assert peak < 12_000_000


@pytest.mark.parametrize("name", ["out.fa", "out.fa.gz"])
def test_what_is_written_reads_back(tmp_path, name):
    rng = np.random.default_rng(0)
    contigs = [
        (f"c{length}", rng.choice(np.frombuffer(b"ACGTN", np.uint8), length), rng.random(length) < 0.3)
        for length in (0, 1, 59, 60, 61, 1000)
    ]
    write_fasta(tmp_path / name, contigs)
    read = list(read_chunks(tmp_path / name))
    assert [chunk.contig for chunk in read] == [contig for contig, _, _ in contigs]
    for chunk, (_, bases, soft_mask) in zip(read, contigs, strict=True):
        np.testing.assert_array_equal(chunk.bases, bases)
        np.testing.assert_array_equal(chunk.soft_mask, soft_mask)
    is_gzip = (tmp_path / name).read_bytes().startswith(b"\x1f\x8b")
    assert is_gzip == name.endswith(".gz")
    write_fasta(tmp_path / f"again_{name}", contigs)
    assert (tmp_path / f"again_{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_lines_have_sixty_letters(tmp_path):
    bases = np.full(130, ord("A"), np.uint8)
    write_fasta(tmp_path / "out.fa", [("a", bases, np.arange(130) >= 125)])
    assert (tmp_path / "out.fa").read_text() == f">a\n{'A' * 60}\n{'A' * 60}\n{'A' * 5}{'a' * 5}\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "holds no sequences"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(b"\n", mtime=0), "holds no sequences"),
        (b"\nACGT\n", "line 2: begins with 'A' where a FASTA header"),
        (b"@read1\nACGT\n+\nIIII\n", "line 1: begins with '@' where a FASTA header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not text"),
        (bytes(range(256)), "is not text"),
        (gzip.compress(gzip.compress(b">a\nACGT\n", mtime=0), mtime=0), "is not text"),
        (b">a\nACGT\n>b\nAC\nGT\xff\n", "record 'b', line 5: byte 0xff is no letter"),
        (b">a\nACGT\n>b\nAC\n\nGTLE\n", "record 'b', line 6: 'L' is no IUPAC nucleotide code.*not proteins"),
        (b">p\nMKVLQ*\n", r"record 'p', line 2: 'L' is no IUPAC"),
        (b">p\nACGT*\n", r"record 'p', line 2: '\*' is no IUPAC"),
        (b">p\nacgtxx\n", "record 'p', line 2: 'x' is no IUPAC nucleotide code; write N"),
        (b">a\nAC-GT\n", "record 'a', line 2: '-' is a gap"),
        (b">a\nAC.GT\n", "record 'a', line 2: '.' is a gap"),
        (b">a\nACGT>b\nACGT\n", "record 'a', line 2: '>' stands inside"),
        (b">a\n1 ACGT\n", "record 'a', line 2: '1' is no IUPAC"),
        (b">a\nA\n> \nA\n", "line 3: the header has no name"),
        (b">a\nA\n>b\nA\n>a again\nA\n", "line 5: a second record is named 'a'"),
        (b">a\rACGT\r", "line 1: lines end in CR alone"),
        (b">" + b"a" * 3_000_000, "line 1: the header is over 1 MiB"),
    ],
)
@pytest.mark.parametrize("read", [read_chunks, read_records])
def test_what_is_no_fasta_is_refused_in_one_sentence(tmp_path, read, data, message):
    path = tmp_path / "bad.fa"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        list(read(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("letter", "EFIJLOPQZX*efijlopqzx")
def test_every_letter_that_only_proteins_have_is_refused(tmp_path, letter):
    path = tmp_path / "protein.fa"
    path.write_text(f">a\nACGT\n>sp|P1\nACDG\nACD{letter}G\n")
    place = rf"record 'sp\|P1', line 5: '{'[*]' if letter == '*' else letter}' "
    with pytest.raises(UserError, match=place):
        scan(path)


@pytest.mark.parametrize("blocks", [3, 7, 1 << 20])
def test_the_line_is_right_wherever_blocks_end(tmp_path, monkeypatch, blocks):
    monkeypatch.setattr(fasta_parser, "_BLOCK", blocks)
    path = tmp_path / "bad.fa"
    path.write_bytes(b">first one\r\nACGT\r\nACGT\r\n\r\n>second\r\nAC\r\nAQ\r\n")
    with pytest.raises(UserError, match="record 'second', line 7: 'Q'"):
        list(read_chunks(path))


def gzip_damages(whole: bytes) -> dict[str, bytes]:
    return {
        "cut in the header": whole[:5],
        "cut in the data": whole[: len(whole) // 2],
        "cut in the checksum": whole[:-3],
        "wrong checksum": whole[:-8] + b"12345678",
        "other bytes inside": whole[:2000] + b"\xff" * 50 + whole[2050:],
        "not deflate": b"\x1f\x8b\x07" + whole[3:],
        "something after the end": whole + b"something else after the end",
    }


@pytest.mark.parametrize("damage", gzip_damages(b""))
def test_damaged_gzip_is_refused(tmp_path, damage):
    bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 30_000).tobytes()
    path = tmp_path / "genome.fa.gz"
    path.write_bytes(gzip_damages(gzip.compress(b">a\n" + bases, mtime=0))[damage])
    with pytest.raises(UserError, match="the gzip data is truncated or damaged"):
        list(read_chunks(path))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.fa: cannot be read: No such file"):
        list(read_chunks(tmp_path / "nothing.fa"))
    with pytest.raises(UserError, match="is a folder"):
        scan(tmp_path)


def test_real_genomes_hold_what_their_manifest_says(shared: Path):
    with open(shared / "genomes" / "MANIFEST.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 13
    for row in rows:
        path = shared / "genomes" / row["file"]
        records = bases = unknown = 0
        for chunk in read_chunks(path):
            records += chunk.start == 0
            bases += len(chunk.bases)
            unknown += int(np.count_nonzero(chunk.bases == ord("N")))
        assert (records, bases, unknown) == (int(row["records"]), int(row["bases"]), int(row["N"])), path.name


def test_a_real_genome_reads_as_the_naive_parser_reads_it(shared: Path):
    path = shared / "genomes" / "athaliana_1pct.fa.gz"
    expected = naive_records(gzip.decompress(path.read_bytes()).decode())
    assert [(record.name, record.sequence) for record in read_records(path)] == expected
    assert [contig.length for contig in scan(path)] == [len(sequence) for _, sequence in expected]
