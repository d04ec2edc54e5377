"""Reverse complements, against the pairing rules written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.genome.sequence import ACGT, IUPAC, reverse_complement

# IUPAC-IUB 1984: the bases that each code stands for.
MEANING = {
    **{base: {base} for base in "ACGT"},
    "R": set("AG"), "Y": set("CT"), "S": set("CG"), "W": set("AT"), "K": set("GT"), "M": set("AC"),
    "B": set("CGT"), "D": set("AGT"), "H": set("ACT"), "V": set("ACG"), "N": set("ACGT"),
}  # fmt: skip
PAIR = {"A": "T", "C": "G", "G": "C", "T": "A"}

letters = st.text(alphabet="".join(MEANING) + "".join(MEANING).lower())


def test_reads_the_other_strand():
    assert reverse_complement("AACGTTg") == "cAACGTT"
    assert reverse_complement("ANNC") == "GNNT"
    assert reverse_complement("AU") == "AT"
    assert reverse_complement("") == ""


@pytest.mark.parametrize("code", sorted(MEANING))
def test_a_code_pairs_with_the_code_of_the_paired_bases(code):
    assert MEANING[reverse_complement(code)] == {PAIR[base] for base in MEANING[code]}


def test_every_nucleotide_code_has_a_pair():
    assert set(IUPAC) == set(MEANING) | {"U"}


@given(letters)
def test_twice_is_the_same_sequence(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


@given(letters)
def test_arrays_and_text_agree(sequence):
    bases = np.frombuffer(sequence.encode(), np.uint8)
    turned = reverse_complement(bases)
    assert turned.dtype == np.uint8
    assert turned.tobytes().decode() == reverse_complement(sequence)


def test_each_row_of_a_batch_is_turned():
    batch = np.array([list(b"AACG"), list(b"TTGC")], np.uint8)
    assert [row.tobytes() for row in reverse_complement(batch)] == [b"CGTT", b"GCAA"]


def test_the_four_bases_in_either_case():
    assert bytes(np.flatnonzero(ACGT).astype(np.uint8)) == b"ACGTacgt"
