"""Encoding and decoding, against the released tokenizer's golden ids and against the `tokenizers` library."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from dna_texts import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.tokenizer import GENOME_PIECE_BASES, Tokenizer
from dnabert2_jax.tokenizer.vocabulary import CLS_ID, MASK_ID, PAD_ID, SEP_ID, UNK_ID

dna = st.text("ACGT", max_size=300)
repeats = st.lists(st.tuples(st.text("ACGT", min_size=1, max_size=6), st.integers(1, 40)), max_size=6).map(
    lambda parts: "".join(unit * times for unit, times in parts)
)
messy = texts("ACGTacgtN")


def genome(shared: Path, name: str) -> str:
    with gzip.open(shared / "genomes" / name, "rt") as file:
        return "".join(line.strip().upper() for line in file if not line.startswith(">"))


def test_special_ids() -> None:
    assert (UNK_ID, CLS_ID, SEP_ID, PAD_ID, MASK_ID) == (0, 1, 2, 3, 4)


def test_golden_ids(golden: Tokenizer, shared: Path) -> None:
    cases = json.loads((shared / "golden" / "tokenizer_golden.json").read_text())["cases"]
    assert len(cases) > 20
    for case in cases:
        ids = golden.encode(case["text"])
        assert ids.dtype == np.int32
        assert ids.tolist() == case["ids"]
        assert [golden.id_to_token(token_id) for token_id in ids] == case["tokens"]
        assert golden.encode(case["text"], special_tokens=False).tolist() == case["ids_no_special"]


def test_golden_batch(golden: Tokenizer, shared: Path) -> None:
    folder = shared / "golden" / "hf_tiny_mlm"
    batch = golden.encode_batch(json.loads((folder / "sequences.json").read_text()))
    with np.load(folder / "expected.npz") as expected:
        np.testing.assert_array_equal(batch.input_ids, expected["input_ids"])
        np.testing.assert_array_equal(batch.attention_mask, expected["attention_mask"])


@pytest.mark.parametrize(
    "name",
    ["ecoli_K12_MG1655_GCF_000005845.2.fna.gz", "human_chr22_20-21M.fa.gz", "athaliana_1pct.fa.gz"],
)
def test_real_genomes(
    name: str, golden: Tokenizer, golden_in_library: tokenizers.Tokenizer, shared: Path
) -> None:
    from_model = Tokenizer.load(shared / "golden" / "dnabert2_vocab_as_sentencepiece.model")
    text = genome(shared, name)
    for start in range(0, 300_000, 5_000):
        window = text[start : start + 5_000]
        expected = golden_in_library.encode(window).ids
        assert golden.encode(window).tolist() == expected
        assert from_model.encode(window).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(dna, repeats, messy))
def test_any_text_as_released(text: str, golden: Tokenizer, golden_in_library: tokenizers.Tokenizer) -> None:
    assert golden.encode(text).tolist() == golden_in_library.encode(text).ids


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(dna, repeats, messy))
def test_any_text_with_a_vocabulary_of_our_own(
    text: str, small: Tokenizer, small_in_library: tokenizers.Tokenizer
) -> None:
    upper = "".join({"a": "A", "c": "C", "g": "G", "t": "T"}.get(letter, letter) for letter in text)
    assert Tokenizer(small.tokens, "released").encode(text).tolist() == small_in_library.encode(text).ids
    assert small.encode(text).tolist() == small_in_library.encode(upper).ids


@given(text=st.one_of(dna, repeats))
def test_decode_inverts_encode(text: str, small: Tokenizer) -> None:
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert small.decode(small.encode(text.lower())) == text
    assert small.token_lengths[ids].sum() == len(text)


def test_decode_keeps_one_letter_per_base(small: Tokenizer) -> None:
    ids = small.encode("ACGTNNRYacgt-T")
    text = small.decode(ids)
    assert text == "ACGTNNNNACGTNT"
    assert len(text) == small.token_lengths[ids].sum()
    assert small.decode([CLS_ID, UNK_ID, MASK_ID, SEP_ID, PAD_ID]) == "N"
    assert small.decode([CLS_ID, UNK_ID, SEP_ID], skip_special_tokens=False) == "[CLS][UNK][SEP]"
    assert small.decode([]) == ""


@pytest.mark.parametrize("token_id", [-1, 300])
def test_decode_refuses_ids_outside_of_the_vocabulary(token_id: int, small: Tokenizer) -> None:
    with pytest.raises(UserError, match=f"token id {token_id} is outside of the vocabulary, 0 to 299"):
        small.decode([CLS_ID, token_id])


def test_lower_case(small: Tokenizer) -> None:
    released = Tokenizer(small.tokens, "released")
    assert small.encode("acgT").tolist() == small.encode("ACGT").tolist()
    assert released.encode("acgT").tolist() == [CLS_ID, UNK_ID, UNK_ID, UNK_ID, 8, SEP_ID]


def test_names_of_special_tokens_are_not_read_from_text(small: Tokenizer) -> None:
    assert small.encode("[MASK]", special_tokens=False).tolist()[0] == UNK_ID
    assert MASK_ID not in small.encode("[MASK]")


def test_pair_is_as_the_library_has_it(small: Tokenizer, small_in_library: tokenizers.Tokenizer) -> None:
    pair = small.encode_pair("ACGTTGCA", "GGNTA")
    expected = small_in_library.encode("ACGTTGCA", "GGNTA")
    assert pair.input_ids.tolist() == expected.ids
    assert pair.token_type_ids.tolist() == expected.type_ids
    assert pair.token_type_ids.dtype == np.int32


@settings(deadline=None)
@given(sequences=st.lists(dna, min_size=1, max_size=5), max_length=st.integers(2, 40))
def test_batch_is_padded_and_cut_as_the_library_does(
    sequences: list[str], max_length: int, small: Tokenizer, small_in_library: tokenizers.Tokenizer
) -> None:
    library = tokenizers.Tokenizer.from_str(small_in_library.to_str())
    library.enable_truncation(max_length)
    library.enable_padding(pad_id=PAD_ID, pad_token="[PAD]")
    expected = library.encode_batch(sequences)
    batch = small.encode_batch(sequences, max_length=max_length)
    assert batch.input_ids.tolist() == [row.ids for row in expected]
    assert batch.attention_mask.tolist() == [row.attention_mask for row in expected]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int32


def test_batch_edges(small: Tokenizer) -> None:
    assert small.encode_batch(["", ""]).input_ids.tolist() == [[CLS_ID, SEP_ID]] * 2
    assert small.encode_batch([]).input_ids.shape == (0, 0)
    with pytest.raises(UserError, match="max_length is 1"):
        small.encode_batch(["ACGT"], max_length=1)


@given(stretches=st.lists(dna, max_size=8))
def test_bases_give_the_ids_of_text(stretches: list[str], small: Tokenizer) -> None:
    bases = [np.frombuffer(text.encode(), np.uint8) for text in stretches]
    expected = [small.encode(text, special_tokens=False).tolist() for text in stretches]
    assert [small.encode_bases(stretch).tolist() for stretch in bases] == expected
    assert [ids.tolist() for ids in small.encode_genome(bases)] == expected


def test_long_genome_is_encoded_in_pieces(small: Tokenizer, random_dna: Callable[[int, int], str]) -> None:
    text = random_dna(2 * GENOME_PIECE_BASES + 500, 4)
    bases = np.frombuffer(text.encode(), np.uint8)
    whole, short, empty = small.encode_genome([bases, bases[:300], bases[:0]])
    assert small.decode(whole) == text
    assert abs(len(whole) - len(small.encode_bases(bases))) <= 4
    assert short.tolist() == small.encode_bases(bases[:300]).tolist()
    assert empty.tolist() == []
    assert whole.dtype == short.dtype == empty.dtype == np.int32


def test_bases_may_be_a_view(small: Tokenizer) -> None:
    bases = np.frombuffer(b"ACGTTGCATTGACA", np.uint8)[::-1]
    assert small.decode(small.encode_bases(bases)) == "ACAGTTACGTTGCA"
    assert small.encode_bases(bases).dtype == np.int32


def test_token_lengths(small: Tokenizer) -> None:
    lengths = small.token_lengths
    assert (lengths.dtype, lengths.shape) == (np.int32, (300,))
    assert lengths[:9].tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert lengths[9:].tolist() == [len(token) for token in small.tokens[9:]]


def test_travels_between_processes(small: Tokenizer) -> None:
    small.encode("ACGT")
    copy = pickle.loads(pickle.dumps(small))
    assert copy == small
    assert copy.encode("TTGACA").tolist() == small.encode("TTGACA").tolist()


def test_unknown_case_is_refused(small: Tokenizer) -> None:
    with pytest.raises(UserError, match="case is 'lower'; choose 'upper' or 'released'"):
        Tokenizer(small.tokens, "lower")  # pyright: ignore[reportArgumentType]
