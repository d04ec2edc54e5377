"""The tokenizer's files: what is written, what is read back, and what is refused and why."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from dnabert2_jax.errors import UserError
from dnabert2_jax.tokenizer.released import (
    pieces_from_json,
    pieces_from_sentencepiece,
    sentencepiece_model,
    tokenizer_json,
)
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

proto: Any = sentencepiece_model_pb2


def test_saving_the_released_tokenizer_gives_the_released_files(
    golden: Tokenizer, shared: Path, tmp_path: Path
) -> None:
    golden.save(tmp_path)
    folder = shared / "golden"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "tokenizer_config.json").read_bytes() == (
        folder / "hf_tiny_mlm" / "tokenizer_config.json"
    ).read_bytes()
    assert (tmp_path / "tokenizer.model").read_bytes() == (
        folder / "dnabert2_vocab_as_sentencepiece.model"
    ).read_bytes()


def test_round_trip_through_either_file(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "folder")
    whole = Tokenizer.load(tmp_path / "folder")
    from_json = Tokenizer.load(tmp_path / "folder" / "tokenizer.json")
    from_model = Tokenizer.load(str(tmp_path / "folder" / "tokenizer.model"))
    assert whole == from_json == from_model == small
    assert whole.sha256 == from_json.sha256 == from_model.sha256 == small.sha256
    (tmp_path / "folder" / "tokenizer.model").unlink()
    assert Tokenizer.load(tmp_path / "folder") == small


def test_fingerprint_tells_vocabularies_apart(small: Tokenizer) -> None:
    tokens = list(small.tokens)
    assert Tokenizer(tuple(tokens[:-1])).sha256 != small.sha256
    tokens[9], tokens[10] = tokens[10], tokens[9]
    assert Tokenizer(tuple(tokens[:11])).sha256 != Tokenizer(small.tokens[:11]).sha256


def test_model_works_in_plain_sentencepiece(small: Tokenizer) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(small.tokens))
    special = [processor.unk_id(), processor.bos_id(), processor.eos_id(), processor.pad_id()]
    assert special == [0, 1, 2, 3]
    assert processor.piece_to_id("[MASK]") == 4
    assert processor.encode("ACGTTGCA") == small.encode("ACGTTGCA", special_tokens=False).tolist()


def test_json_of_newer_libraries_is_read(small: Tokenizer) -> None:
    content = json.loads(tokenizer_json(small.tokens))
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    content["model"] |= {"byte_fallback": False, "ignore_merges": False}
    content["truncation"] = {"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0}
    assert pieces_from_json(json.dumps(content).encode()) == small.tokens


def swap_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def renumber(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["AA" if "AA" in content["model"]["vocab"] else "A"] = 9_999


def swap_letters(content: dict[str, Any]) -> None:
    content["model"]["vocab"] |= {"A": 6, "C": 5}


def add_word(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["##ing"] = len(vocab)


def add_unmade_piece(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["ACGTACGTACGTTTGACA" * 2] = len(vocab)


def rename_special(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["<s>"] = vocab.pop("[CLS]")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("model"), "not a readable tokenizer.json"),
        (lambda c: c["model"].update(vocab={"A": "5"}), "not a readable tokenizer.json"),
        (lambda c: c["model"].update(type="WordPiece"), "holds a WordPiece tokenizer"),
        (lambda c: c["model"].update(type="Unigram", vocab=[["A", -1.0]]), "holds a Unigram tokenizer"),
        (lambda c: c.update(normalizer={"type": "BertNormalizer"}), r"has a normalizer \(BertNormalizer\)"),
        (lambda c: c.update(pre_tokenizer={"type": "ByteLevel"}), "splits text by ByteLevel"),
        (lambda c: c.update(pre_tokenizer=None), "splits text by nothing"),
        (lambda c: c["model"].update(fuse_unk=True), "sets model.fuse_unk to True"),
        (lambda c: c["model"].update(dropout=0.1), "sets model.dropout to 0.1"),
        (lambda c: c["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (lambda c: c["added_tokens"].pop(), "adds other special tokens"),
        (lambda c: c["post_processor"].update(type="BertProcessing"), "puts special tokens elsewhere"),
        (renumber, "numbers its 300 tokens otherwise than 0 to 299"),
        (rename_special, "ids 0-4 must be"),
        (swap_letters, "ids 5-8 must be A C G T"),
        (add_word, "id 300 is '##ing'"),
        (add_unmade_piece, "id 300, .* does not follow from the pieces before it"),
        (swap_merges, "as merge 0 where id 9 needs"),
        (lambda c: c["model"]["merges"].pop(), "has 290 merges where 291 are expected"),
    ],
)
def test_other_tokenizers_are_refused(
    change: Callable[[dict[str, Any]], Any], reason: str, small: Tokenizer, tmp_path: Path
) -> None:
    content = copy.deepcopy(json.loads(tokenizer_json(small.tokens)))
    change(content)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=reason) as raised:
        Tokenizer.load(tmp_path)
    assert str(raised.value).startswith(f"{file}: ")


def test_byte_level_vocabulary_is_refused() -> None:
    model = proto.ModelProto()
    for piece in ("<unk>", "<s>", "</s>", "▁the"):
        model.pieces.add(piece=piece)
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    with pytest.raises(UserError, match=r"ids 0-4 must be .*, but they are '<unk>' '<s>'"):
        pieces_from_sentencepiece(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: setattr(m.trainer_spec, "model_type", proto.TrainerSpec.UNIGRAM), "SentencePiece UNIGRAM"),
        (lambda m: setattr(m.pieces[20], "score", -5.0), "does not score its pieces in the order"),
        (lambda m: setattr(m.pieces[20], "score", float("nan")), "does not score its pieces in the order"),
        (lambda m: setattr(m.pieces[4], "type", 1), "another type than CONTROL"),
        (lambda m: m.pieces.add(piece=m.pieces[9].piece, score=-300.0), "does not follow"),
        (lambda m: m.ClearField("pieces"), "holds no pieces"),
    ],
)
def test_other_models_are_refused(
    change: Callable[[Any], Any], reason: str, small: Tokenizer, tmp_path: Path
) -> None:
    model = proto.ModelProto.FromString(sentencepiece_model(small.tokens))
    change(model)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=reason):
        Tokenizer.load(tmp_path)


@given(data=st.binary(max_size=400), cut=st.integers(0, 3_000), place=st.integers(0, 3_000))
def test_damaged_files_end_in_a_sentence(data: bytes, cut: int, place: int, small: Tokenizer) -> None:
    tokens = small.tokens[:40]
    for read, whole in (
        (pieces_from_json, tokenizer_json(tokens)),
        (pieces_from_sentencepiece, sentencepiece_model(tokens)),
    ):
        for damaged in (data, whole[:cut], whole[:place] + data + whole[place + len(data) :]):
            try:
                read_tokens = read(damaged)
            except UserError:
                continue
            assert read_tokens[:9] == tokens[:9]


def test_deep_json_is_refused() -> None:
    with pytest.raises(UserError, match=r"not a readable tokenizer.json"):
        pieces_from_json(b'{"model":' + b"[" * 100_000)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has neither tokenizer.model nor tokenizer.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: cannot be read: No such file or directory"):
        Tokenizer.load(tmp_path / "nowhere")


def test_files_that_disagree(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json(small.tokens[:-1]))
    with pytest.raises(UserError, match=r"tokenizer.model and tokenizer.json hold different vocabularies"):
        Tokenizer.load(tmp_path)
