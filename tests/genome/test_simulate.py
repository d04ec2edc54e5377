"""Simulated genomes have the structure that they claim, and splits of labelled examples share no base."""

import re
from itertools import pairwise

import numpy as np
import pytest

from dnabert2_jax.genome.examples import promoter_examples, promoter_windows
from dnabert2_jax.genome.fasta import read_chunks, write_fasta
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.genome.simulate import SimulatedGenome, simulate_genomes


@pytest.fixture(scope="module")
def genomes() -> list[SimulatedGenome]:
    return simulate_genomes(species=3, bases=300_000, seed=7)


def promoter_texts(genome: SimulatedGenome, kind: str) -> list[str]:
    contigs = {contig.name: contig.bases for contig in genome.contigs}
    texts = []
    for element in genome.elements:
        if element.kind == kind:
            bases = contigs[element.contig][element.start : element.end]
            bases = bases if element.strand == "+" else reverse_complement(bases)
            texts.append(bases.tobytes().decode())
    return texts


def gc_content(bases: np.ndarray) -> float:
    return float(np.isin(bases, list(b"GC")).mean())


def whole(genome: SimulatedGenome) -> np.ndarray:
    return np.concatenate([contig.bases for contig in genome.contigs])


def test_genomes_have_the_asked_size_and_names_of_their_own(genomes):
    assert [genome.name for genome in genomes] == ["simulated_1", "simulated_2", "simulated_3"]
    names = [contig.name for genome in genomes for contig in genome.contigs]
    assert len(set(names)) == len(names) == 12
    for genome in genomes:
        assert len(whole(genome)) == 300_000
        assert set(whole(genome).tobytes()) == set(b"ACGTN")
        for contig in genome.contigs:
            assert contig.bases.dtype == np.uint8
            assert contig.soft_mask.dtype == np.bool_
            assert contig.bases.shape == contig.soft_mask.shape


def test_the_seed_decides(genomes):
    again = simulate_genomes(species=3, bases=300_000, seed=7)
    other = simulate_genomes(species=3, bases=300_000, seed=8)
    for genome, same, different in zip(genomes, again, other, strict=True):
        np.testing.assert_array_equal(whole(genome), whole(same))
        assert genome.elements == same.elements
        assert (whole(genome) != whole(different)).mean() > 0.5


def test_species_differ_in_composition_and_strands_do_not(genomes):
    contents = [gc_content(whole(genome)) for genome in genomes]
    assert contents[0] + 0.02 < contents[1] < contents[2] - 0.02
    for genome in genomes:
        counts = {base: int(np.count_nonzero(whole(genome) == ord(base))) for base in "ACGT"}
        assert counts["A"] == pytest.approx(counts["T"], rel=0.05)
        assert counts["C"] == pytest.approx(counts["G"], rel=0.05)


def test_promoters_follow_their_grammar_on_both_strands(genomes):
    for genome in genomes:
        assert len(genome.elements) > 150
        assert {element.strand for element in genome.elements} == {"+", "-"}
        # The start site is at 100, and motifs move by up to two bases.
        for text in promoter_texts(genome, "tata"):
            assert re.search("TATA[AT]A[AT][AG]", text[67:79])
        for kind in ("tata", "tataless"):
            for text in promoter_texts(genome, kind):
                assert re.search("[CT][CT]A[ACGT][AT][CT][CT]", text[96:107])
                assert re.search("[AG]G[AT][CT][ACG]T", text[126:136])


def test_elements_do_not_overlap_each_other_or_repeats(genomes):
    for genome in genomes:
        for contig in genome.contigs:
            elements = [element for element in genome.elements if element.contig == contig.name]
            for before, after in pairwise(elements):
                assert before.end <= after.start
            for element in elements:
                assert not contig.soft_mask[element.start : element.end].any()


def test_a_gene_follows_every_promoter(genomes):
    for genome in genomes:
        contigs = {contig.name: contig.bases for contig in genome.contigs}
        for element in genome.elements[:50]:
            bases = contigs[element.contig]
            after = bases[element.end : element.end + 1000]
            if element.strand == "-":
                after = reverse_complement(bases[max(element.start - 1000, 0) : element.start])
            assert re.search(r"ATG(?:(?!TAA|TAG|TGA)[ACGT]{3}){90,}(?:TAA|TAG|TGA)", after.tobytes().decode())


def test_genes_have_a_period_of_three(genomes):
    def power(windows: np.ndarray, period: float) -> float:
        """Mean power of the four bases at a period; 1 is what bases in random order have."""
        wave = np.exp(-2j * np.pi * np.arange(windows.shape[1]) / period)
        signals = [(windows == base) - (windows == base).mean(axis=1, keepdims=True) for base in b"ACGT"]
        return sum((abs(x @ wave) ** 2).sum() for x in signals) / sum((x**2).sum() for x in signals)

    for genome in genomes:
        contigs = {contig.name: contig.bases for contig in genome.contigs}
        # Leaders are shorter than 60 bases, and genes longer than 270.
        genes = np.stack(
            [
                bases[element.end + 60 :][:210]
                if element.strand == "+"
                else bases[: element.start - 60][-210:]
                for element in genome.elements
                for bases in [contigs[element.contig]]
            ]
        )
        assert power(genes, 3) > 2
        assert max(power(genes, period) for period in (2.5, 2.8, 3.2, 3.5, 5.3)) < 1.3


def test_repeats_are_masked_copies_of_few_families(genomes):
    def words(contig_bases: np.ndarray, wanted: np.ndarray) -> list[str]:
        text = np.where(wanted, contig_bases, ord(" ")).astype(np.uint8).tobytes().decode()
        return [word[i : i + 14] for word in text.split() for i in range(len(word) - 13)]

    contig = genomes[0].contigs[0]
    assert 0.05 < contig.soft_mask.mean() < 0.2
    masked, unmasked = words(contig.bases, contig.soft_mask), words(contig.bases, ~contig.soft_mask)
    assert len(set(masked)) < 0.8 * len(masked)
    assert len(set(unmasked)) > 0.98 * len(unmasked)


@pytest.mark.parametrize("bases", [1, 50, 3000, 99_999, 100_001])
def test_small_genomes_have_the_asked_size_too(bases):
    (genome,) = simulate_genomes(species=1, bases=bases, seed=0)
    assert len(whole(genome)) == bases


def test_genomes_survive_the_way_through_a_file(genomes, tmp_path):
    write_fasta(tmp_path / "genome.fa.gz", genomes[0].contigs)
    for chunk, contig in zip(read_chunks(tmp_path / "genome.fa.gz"), genomes[0].contigs, strict=True):
        assert chunk.contig == contig.name
        np.testing.assert_array_equal(chunk.bases, contig.bases)
        np.testing.assert_array_equal(chunk.soft_mask, contig.soft_mask)


def test_examples_are_balanced_sequences_of_one_length(genomes):
    examples = promoter_examples(genomes, length=300, seed=1)
    assert list(examples) == ["train", "dev", "test"]
    for split, pairs in examples.items():
        labels = [label for _, label in pairs]
        assert labels.count(1) == labels.count(0) > {"train": 400, "dev": 40, "test": 40}[split]
        assert {len(sequence) for sequence, _ in pairs} == {300}
        assert set("".join(sequence for sequence, _ in pairs)) == set("ACGT")
        assert labels != sorted(labels, reverse=True)


def test_examples_are_centred_on_promoters_or_touch_none(genomes):
    elements = {(e.contig, (e.start + e.end) // 2, e.strand) for g in genomes for e in g.elements}
    touched = {contig.name: np.zeros(len(contig.bases), bool) for g in genomes for contig in g.contigs}
    for genome in genomes:
        for element in genome.elements:
            touched[element.contig][element.start : element.end] = True
    for windows in promoter_windows(genomes, length=300, seed=1).values():
        for window in windows:
            if window.label == 1:
                assert (window.contig, window.start + 150, window.strand) in elements
            else:
                assert not touched[window.contig][window.start : window.end].any()


def test_splits_share_no_base(genomes):
    taken = {}
    for split, windows in promoter_windows(genomes, length=300, seed=1).items():
        taken[split] = {(w.contig, position) for w in windows for position in range(w.start, w.end)}
    assert not taken["train"] & taken["dev"]
    assert not taken["train"] & taken["test"]
    assert not taken["dev"] & taken["test"]


def test_promoters_in_examples_read_forward(genomes):
    examples = promoter_examples(genomes, length=160, seed=1)
    promoters = {text for g in genomes for kind in ("tata", "tataless") for text in promoter_texts(g, kind)}
    for pairs in examples.values():
        assert all((sequence in promoters) == bool(label) for sequence, label in pairs)
