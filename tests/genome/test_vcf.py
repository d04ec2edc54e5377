"""VCF files: what is read of them, that all else leaves as it came, and what becomes of damaged ones."""

import gzip
from pathlib import Path

import numpy as np
import pysam
import pytest
from byte_mutations import mutate, read_mutants
from vcf_texts import HEADER, vcf_text

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.alleles import (
    Change,
    ReferenceBases,
    allele_windows,
    random_changes,
    read_change,
    trim,
)
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.genome.vcf import annotated, described_header, open_vcf, vcf_output

DESCRIPTION = '##INFO=<ID=KEY,Number=A,Type=String,Description="a test">'

RECORDS = [
    "a 5 rs1 A G 50 PASS AC=1;DB",
    "a 3 . AC A . q10 .",
    "b 7 x;y G A,T,<DEL> 1e-3 . AC=1,2,3;",
    "none 1 . N . . . DB",
]


def copy_of(path: Path, output: Path) -> bytes:
    with open_vcf(path, "KEY") as vcf, vcf_output(output) as write:
        write(described_header(vcf.header, DESCRIPTION))
        for record in vcf.records:
            write(annotated(record, "KEY", [str(n) for n in range(len(record.alternatives))]))
    data = output.read_bytes()
    return gzip.decompress(data) if output.suffix == ".gz" else data


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_but_one_key_leaves_as_it_came(tmp_path, end, pack):
    samples = [f"{record} GT 0/1 1|1:x" for record in RECORDS]
    given = vcf_text(samples, " FORMAT s1 s2").replace(b"\n", end)
    (tmp_path / "in.vcf").write_bytes(pack(given))
    lines = copy_of(tmp_path / "in.vcf", tmp_path / "out.vcf").split(end)
    before = given.split(end)
    assert lines[6] == DESCRIPTION.encode()
    assert lines[:6] + lines[7:8] == before[:7]
    for line, old in zip(lines[8:], before[7:], strict=True):
        fields, expected = line.split(b"\t"), old.split(b"\t")
        if old:
            entry = b"KEY=" + b",".join(b"%d" % n for n in range(expected[4].count(b",") + 1))
            info = expected[7].rstrip(b";")
            expected[7] = entry if info == b"." else info + b";" + entry
        assert fields == expected


def test_the_last_line_may_lack_its_end(tmp_path):
    (tmp_path / "in.vcf").write_bytes(vcf_text(RECORDS[:1])[:-1])
    assert copy_of(tmp_path / "in.vcf", tmp_path / "out.vcf").endswith(b"AC=1;DB;KEY=0")


def test_what_is_read_of_a_record(tmp_path):
    (tmp_path / "in.vcf").write_bytes(vcf_text([*RECORDS, "a 0 . A C . . ."]))
    with open_vcf(tmp_path / "in.vcf", "KEY") as vcf:
        records = list(vcf.records)
    assert records[2][0] == 10
    assert records[2][2:] == ("b", 6, "x;y", "G", ("A", "T", "<DEL>"))
    assert [record.start for record in records] == [4, 2, 6, 0, -1]


def test_the_copy_opens_in_pysam(tmp_path):
    (tmp_path / "in.vcf").write_bytes(vcf_text(RECORDS))
    copy_of(tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert file.compression == "BGZF"
        found = [(record.pos, record.info["KEY"]) for record in file]
    assert found == [(5, ("0",)), (3, ("0",)), (7, ("0", "1", "2")), (1, ("0",))]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"a\t5\t.\tA\tG\t.\t.\t.\n", "has no header of VCF"),
        (b"BCF\x02\x02\0\0", "is BCF"),
        (HEADER.replace("\t", " ").encode(), "names other columns"),
        (b"##fileformat=VCFv4.2\n##x\n", "ends without"),
        (b"##fileformat=VCFv4.2\na\t1\n", "ends without"),
        (vcf_text(["a 5 . A"]), "line 8: has 4 columns and the header 8"),
        (vcf_text(["a 5 . A C . . . GT"]), "has 9 columns"),
        (vcf_text([*RECORDS, ""]), "line 12: has 1 columns"),
        (vcf_text(["a x . A C . . ."]), "POS 'x' is no position"),
        (vcf_text(["a -1 . A C . . ."]), "POS '-1' is no position"),
        (vcf_text(["a 5 . A C . . DB;KEY=3"]), "line 8: has the key KEY in INFO already"),
        (vcf_text([]).replace(b"ID=AC,", b"ID=KEY,"), "has the key KEY in INFO already"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, data, words):
    path = tmp_path / "in.vcf"
    path.write_bytes(data)
    with pytest.raises(UserError) as refusal, open_vcf(path, "KEY") as vcf:
        list(vcf.records)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    rng = np.random.default_rng(1)
    bases = "".join(rng.choice(list("ACGTacgt"), 70_000))
    path.write_text(f">a\n{bases}\n>b\nACGTNRACGTAACCGGTTACGTACGT\n")
    with IndexedFasta(path) as fasta:
        yield ReferenceBases(fasta), bases.upper()


def test_blocks_give_the_bases_of_the_file(genome):
    reader, bases = genome
    for start, end in [(0, 0), (0, 10), (65_530, 65_540), (65_536, 70_000), (69_999, 70_000), (3, 3)]:
        assert reader.bases("a", start, end) == bases[start:end]


def test_why_alleles_have_no_score(genome):
    reader, bases = genome
    base = bases[9]
    other = "A" if base != "A" else "C"

    def reason(contig, start, reference, alternative):
        return read_change(reader, contig, start, reference, alternative, 64)

    assert reason("a", 9, base, other) == Change("a", 9, base, other)
    assert reason("a", 9, base.lower(), other.lower()) == Change("a", 9, base, other)
    assert reason("a", 9, other, base) == "ref_mismatch"
    assert reason("a", 9, base, base) == "same_as_reference"
    assert reason("a", 9, base, ".") == "no_alternative"
    assert reason("a", 9, base, "*") == "missing_allele"
    assert reason("a", 9, base, "<DEL>") == "symbolic_allele"
    for alternative in ("G]a:7]", "[b:9[T", ".A", "A."):
        assert reason("a", 9, base, alternative) == "breakend"
    for alternative in ("N", "R", "", "ACX", "<DEL"):
        assert reason("a", 9, base, alternative) == "not_acgt"
    assert reason("b", 4, "N", "A") == "not_acgt"
    assert reason("b", 5, "A", "C") == "ref_mismatch"
    assert reason("c", 9, "A", "C") == "contig_absent"
    assert reason("a", -1, "A", "C") == "outside_contig"
    assert reason("b", 25, "TA", "C") == "outside_contig"
    assert reason("a", 9, base, "A" * 33) == "too_long"


def test_a_window_has_either_allele_in_its_middle(genome):
    reader, bases = genome
    for start, before, after in [
        (100, 1, "T"),
        (300, 3, ""),
        (300, 0, "ACGTA"),
        (4, 2, "GG"),
        (69_999, 1, "A"),
    ]:
        change = Change("a", start, bases[start : start + before], after)
        window = allele_windows(reader, change, 40)
        assert window.reference in bases
        left, right = window.reference[: window.site], window.reference[window.site + before :]
        assert bases[start - len(left) : start] == left
        assert window.alternative == left + after + right
        assert len(left) == min((40 - before) // 2, start)
        assert len(right) == min(40 - (40 - before) // 2 - before, 70_000 - start - before)


@pytest.mark.parametrize(
    ("before", "after", "start", "core"),
    [
        ("A", "C", 5, (5, "A", "C")),
        ("CA", "C", 5, (6, "A", "")),
        ("C", "CTT", 5, (6, "", "TT")),
        ("GACC", "GTCC", 5, (6, "A", "T")),
        ("AAA", "A", 5, (5, "AA", "")),
        ("ACG", "TT", 5, (5, "ACG", "TT")),
    ],
)
def test_what_alleles_share_is_no_change(before, after, start, core):
    assert trim("a", start, before, after) == Change("a", *core)


def test_random_changes_are_of_the_same_kind_and_lengths(genome):
    reader, bases = genome
    for change in (Change("a", 500, bases[500:503], ""), Change("a", 500, "", "ACGTT")):
        drawn = random_changes(reader, change, 40, np.random.default_rng(0))
        assert len(drawn) == 40
        assert len({found.start for found in drawn}) > 30
        for found in drawn:
            assert found.kind == change.kind
            assert len(found.alternative) == len(change.alternative)
            assert found.reference == bases[found.start : found.start + len(change.reference)]
            assert not found.alternative or found.alternative in bases
    assert len(random_changes(reader, Change("b", 3, "T", ""), 10, np.random.default_rng(0))) <= 10


_TOKENS = [
    b"\t", b"\n", b"\r\n", b"#", b"##", b".", b"*", b"<DEL>", b",", b"N", b"]a:5]", b"\0", b"\xff", b"-1",
    b"99999999999999999999", b"DNABERT2=", b";", b"\xef\xbb\xbf", b"\x1f\x8b", b"A" * 300,
]  # fmt: skip


def mutant_of(texts: list[bytes], rng: np.random.Generator) -> bytes:
    """A damaged text; in four of five the header, without which little else is read, stays whole."""
    text, other = (texts[rng.integers(len(texts))] for _ in range(2))
    body = 0 if rng.random() < 0.2 else text.find(b"#CHROM")
    body = text.find(b"\n", body) + 1 if body > 0 else 0
    return text[:body] + mutate(text[body:], other[body:], _TOKENS, rng)


def refusal(path: Path, reader: ReferenceBases) -> str:
    """Reads a file as the command does, and says why it was refused; nothing where it was read."""
    try:
        with open_vcf(path, "DNABERT2") as vcf:
            for record in vcf.records:
                for alternative in record.alternatives:
                    change = read_change(
                        reader, record.contig, record.start, record.reference, alternative, 64
                    )
                    if isinstance(change, Change):
                        allele_windows(reader, change, 64)
                line = annotated(record, "DNABERT2", ["x"] * len(record.alternatives))
                fields, before = line.split(b"\t"), record.line.split(b"\t")
                assert fields[:7] + fields[8:] == before[:7] + before[8:]
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_mutated_files_are_read_or_refused(tmp_path, genome, bgzip, count):
    reader, bases = genome
    good = [f"a {n} . {bases[n - 1]} {'ACGT'[n % 4]},AC . . ." for n in range(1, 40, 7)]
    texts = [vcf_text(RECORDS), vcf_text(good), vcf_text([f"{r} GT 0/1" for r in good], " FORMAT s")]
    texts += [texts[1].replace(b"\n", b"\r\n")]
    packed = [gzip.compress(texts[1], 1, mtime=0), b"".join(bgzip(texts[0], 100))]
    rng = np.random.default_rng(count)
    mutants = (mutant_of(packed if rng.random() < 0.1 else texts, rng) for _ in range(count))

    def outcome(path: Path) -> str:
        message = refusal(path, reader)
        assert "\n" not in message
        assert len(message) < len(str(path)) + 400
        return "refused" if message else "read"

    assert read_mutants(tmp_path / "mutant.vcf", mutants, outcome) == count
