import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.data.records import CorpusRecord, decode_record, encode_record

tokens = st.lists(st.integers(0, 2**16 - 1), max_size=50)


@given(st.text(), st.text(), st.integers(0, 2**40), st.integers(0, 2**31), st.sampled_from("+-"), tokens)
def test_a_record_comes_back_as_it_was(species, contig, start, bases, strand, ids):
    soft_mask = np.arange(len(ids), dtype=np.uint8) if ids else None
    record = CorpusRecord(species, contig, start, bases, strand, np.array(ids, np.uint16), soft_mask)
    back = decode_record(encode_record(record))
    assert (back.species, back.contig, back.start, back.bases, back.strand) == (
        species,
        contig,
        start,
        bases,
        strand,
    )
    np.testing.assert_array_equal(back.tokens, ids)
    if soft_mask is None:
        assert back.soft_mask is None
    else:
        np.testing.assert_array_equal(back.soft_mask, soft_mask)


def test_without_lower_case_the_soft_mask_takes_no_space():
    ids = np.arange(1000, dtype=np.uint16)
    plain = encode_record(CorpusRecord("s", "c", 0, 5000, "+", ids))
    masked = encode_record(CorpusRecord("s", "c", 0, 5000, "+", ids, np.zeros(1000, np.uint8)))
    assert len(plain) < 2 * 1000 + 40
    assert len(masked) - len(plain) >= 1000


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="not a corpus record"):
        decode_record(data)


def test_a_soft_mask_of_another_length_is_refused():
    ids, mask = np.arange(5, dtype=np.uint16), np.zeros(4, np.uint8)
    with pytest.raises(ValueError, match="4 soft-mask bytes for 5 tokens"):
        decode_record(encode_record(CorpusRecord("s", "c", 0, 20, "+", ids, mask)))
