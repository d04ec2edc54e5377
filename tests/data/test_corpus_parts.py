"""Builds that are interrupted, shared among machines, or run out of room."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnabert2_jax.cli.main import main
from dnabert2_jax.data import corpus_build as builder
from dnabert2_jax.data.corpus_build import build_corpus, build_corpus_part
from dnabert2_jax.data.corpus_check import verify_corpus
from dnabert2_jax.data.corpus_plan import CorpusPlan, InputScan
from dnabert2_jax.data.layout import BuildSettings
from dnabert2_jax.errors import UserError

SETTINGS: dict[str, Any] = {"region_bases": 4_000, "unit_bases": 100_000}  # as the fixture `corpus` has


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def units(monkeypatch) -> list[int]:
    """The units that are begun, in order."""
    begun: list[int] = []
    writer = builder.UnitFolder.writer

    def watched(self, unit: int, *rest: Any) -> Any:
        begun.append(unit)
        return writer(self, unit, *rest)

    monkeypatch.setattr(builder.UnitFolder, "writer", watched)
    return begun


class TestInterruption:
    @pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
    def test_the_same_command_goes_on(self, corpus, fastas, tokenizer_folder, tmp_path, units, share):
        output = tmp_path / "corpus"

        def interrupt(done: int, total: int) -> None:
            if done > share * total:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_corpus(fastas, tokenizer_folder, output, progress=interrupt, **SETTINGS)
        assert not output.exists()
        before = set(units)
        build_corpus(fastas, tokenizer_folder, output, **SETTINGS)
        assert content(output) == content(corpus.folder)
        assert len(units) <= len(before) + 1 + len(set(units) - before)  # what was done is not done again
        assert [path.name for path in tmp_path.iterdir()] == ["corpus"]

    @pytest.mark.parametrize("moment", ["SplitIndex.join", "write_metadata", "shutil.rmtree"])
    def test_a_kill_at_the_end_leaves_nothing_half_written(
        self, corpus, fastas, tokenizer_folder, tmp_path, start_python, moment
    ):
        """Killed when the units are done and the corpus is being put together."""
        output = tmp_path / "corpus"
        code = (
            "import os, sys, shutil\n"
            "from dnabert2_jax.data import corpus_build as builder\n"
            "if sys.argv[1] == 'shutil.rmtree':\n"
            "    builder.shutil.rmtree = lambda path, **_: path.name.endswith('partial') and os._exit(9)\n"
            "elif sys.argv[1] == 'write_metadata':\n"
            "    builder.write_metadata = lambda *_: os._exit(9)\n"
            "else:\n"
            "    builder.SplitIndex.join = lambda *_: os._exit(9)\n"
            "inputs = [('alpha', sys.argv[2]), ('beta', sys.argv[3])]\n"
            f"builder.build_corpus(inputs, *sys.argv[4:], **{SETTINGS})"
        )
        process = start_python(code, moment, fastas[0][1], fastas[1][1], tokenizer_folder, output)
        assert process.wait(60) == 9
        if moment == "shutil.rmtree":  # the corpus was there already
            assert content(output) == content(corpus.folder)
            return
        assert not output.exists()
        build_corpus(fastas, tokenizer_folder, output, **SETTINGS)
        assert content(output) == content(corpus.folder)
        assert [path.name for path in tmp_path.iterdir()] == ["corpus"]

    def test_other_settings_are_refused(self, fastas, tokenizer_folder, tmp_path):
        build_corpus_part(fastas, tokenizer_folder, tmp_path / "corpus", part=0, parts=3, **SETTINGS)
        message = r"corpus.partial: holds what was done of a build with other inputs or settings"
        with pytest.raises(UserError, match=message):
            build_corpus(fastas[:1], tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        with pytest.raises(UserError, match=message):
            build_corpus(fastas, tokenizer_folder, tmp_path / "corpus", unit_bases=100_000)

    def test_what_another_call_left_is_not_removed(self, fastas, tokenizer_folder, tmp_path):
        """Not even where no unit of it is done."""
        left = tmp_path / "corpus.partial"
        left.mkdir()
        (left / "plan.json").write_text("another plan")
        with pytest.raises(UserError, match=r"corpus\.partial: holds .*; remove it, or give the same ones"):
            build_corpus(fastas, tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        assert (left / "plan.json").read_text() == "another plan"

    def test_a_corpus_that_appeared_during_the_planning(
        self, corpus, fastas, tokenizer_folder, tmp_path, units, monkeypatch
    ):
        output = tmp_path / "corpus"
        make_plan = builder.make_plan

        def plan_slowly(*rest: Any) -> Any:
            monkeypatch.setattr(builder, "make_plan", make_plan)
            build_corpus(fastas, tokenizer_folder, output, **SETTINGS)
            units.clear()
            return make_plan(*rest)

        monkeypatch.setattr(builder, "make_plan", plan_slowly)
        with pytest.raises(UserError, match="corpus: exists already"):
            build_corpus(fastas, tokenizer_folder, output, **SETTINGS)
        assert units == []
        assert content(output) == content(corpus.folder)
        assert [path.name for path in tmp_path.iterdir()] == ["corpus"]

    def test_a_folder_that_appeared_during_the_work_stays(self, corpus, fastas, tokenizer_folder, tmp_path):
        output = tmp_path / "corpus"

        def meddle(*_: int) -> None:
            output.mkdir(exist_ok=True)
            (output / "precious").touch()

        with pytest.raises(UserError, match="corpus: exists already"):
            build_corpus(fastas, tokenizer_folder, output, progress=meddle, **SETTINGS)
        assert list(content(output)) == ["precious"]
        (output / "precious").unlink()
        build_corpus(fastas, tokenizer_folder, output, **SETTINGS)  # goes on from what is done
        assert content(output) == content(corpus.folder)

    def test_an_input_that_changed_is_noticed(self, fastas, tokenizer_folder, tmp_path):
        genome = tmp_path / "g.fa"
        genome.write_bytes(fastas[0][1].read_bytes())
        inputs = [("g", genome)]
        build_corpus_part(inputs, tokenizer_folder, tmp_path / "corpus", part=0, parts=2, **SETTINGS)
        genome.write_bytes(genome.read_bytes().replace(b"ACGTTG", b"ACGTTT", 1))
        with pytest.raises(UserError, match="other inputs"):
            build_corpus(inputs, tokenizer_folder, tmp_path / "corpus", **SETTINGS)


class TestParts:
    @pytest.mark.parametrize("parts", [1, 2, 3, 50])
    def test_parts_make_the_same_bytes(self, corpus, fastas, tokenizer_folder, tmp_path, parts, units):
        output = tmp_path / "corpus"
        done, number = 0, 0
        for part in reversed(range(parts)):
            done, number = build_corpus_part(
                fastas, tokenizer_folder, output, part=part, parts=parts, workers=2, **SETTINGS
            )
        assert done == number == len(units) == len(set(units))
        assert not output.exists()
        build_corpus(fastas, tokenizer_folder, output, **SETTINGS)
        assert len(units) == number  # nothing was left to do
        assert content(output) == content(corpus.folder)
        assert verify_corpus(output) == []

    def test_what_no_part_did_is_done_at_the_end(self, corpus, fastas, tokenizer_folder, tmp_path):
        build_corpus_part(fastas, tokenizer_folder, tmp_path / "corpus", part=1, parts=4, **SETTINGS)
        build_corpus(fastas, tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        assert content(tmp_path / "corpus") == content(corpus.folder)

    def test_parts_of_machines_that_share_nothing(self, corpus, fastas, tokenizer_folder, tmp_path):
        for part in range(3):
            output = tmp_path / f"machine{part}" / "corpus"
            build_corpus_part(fastas, tokenizer_folder, output, part=part, parts=3, **SETTINGS)
            os.system(f"cp -r {output}.partial {tmp_path}/")
        build_corpus(fastas, tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        assert content(tmp_path / "corpus") == content(corpus.folder)

    @pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
    def test_a_part_that_there_is_not(self, fastas, tokenizer_folder, tmp_path, part, parts):
        with pytest.raises(UserError, match=f"there is no part {part} of {parts}"):
            build_corpus_part(fastas, tokenizer_folder, tmp_path / "corpus", part=part, parts=parts)

    def test_from_the_command_line(self, fastas, tokenizer_folder, tmp_path, capsys):
        output = str(tmp_path / "corpus")
        words = ["corpus", "build", "--fasta", *(str(path) for _, path in fastas)]
        words += ["--tokenizer", str(tokenizer_folder), "--output", output]
        for part, done in ((0, 1), (1, 2)):
            assert main([*words, "--shard", str(part), "--num-shards", "2"]) == 0
            assert f"part {part} of 2 is done, and {done} of 2 units in all" in capsys.readouterr().out
            assert not (tmp_path / "corpus").exists()
        assert main(words) == 0
        assert verify_corpus(output) == []

    def test_two_whole_builds_do_not_meet(self, fastas, tokenizer_folder, tmp_path):
        output = tmp_path / "corpus"

        def build_again(*_: int) -> None:
            build_corpus(fastas, tokenizer_folder, output, **SETTINGS)

        with pytest.raises(UserError, match="another run is writing here"):
            build_corpus(fastas, tokenizer_folder, output, progress=build_again, **SETTINGS)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow above so many bytes: what a full disk does, whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    @pytest.mark.parametrize("size", [100, 1000, 30_000, 66_000])
    def test_one_sentence_and_nothing_half_written(self, fastas, tokenizer_folder, tmp_path, capsys, size):
        words = ["corpus", "build", "--fasta", str(fastas[0][1]), "--tokenizer", str(tokenizer_folder)]
        with room_for(size):
            status = main([*words, "--output", str(tmp_path / "corpus")])
        assert status == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{tmp_path}/corpus" in line
        assert "cannot be written: File too large; free some space" in line
        assert list(tmp_path.iterdir()) == []

    def test_whole_units_are_kept(self, fastas, tokenizer_folder, tmp_path):
        inputs = fastas[::-1]  # the small genome first
        with room_for(150_000), pytest.raises(UserError, match="cannot be written"):
            build_corpus(inputs, tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        assert not (tmp_path / "corpus").exists()
        partial = tmp_path / "corpus.partial"
        assert [path.name for path in (partial / "units").glob("[0-9.]*")] == ["00000"]
        assert {path.name for path in (partial / "corpus").iterdir()} == {
            "train-00000.arrayrecord",
            "validation-00000.arrayrecord",
        }
        build_corpus(inputs, tokenizer_folder, tmp_path / "corpus", **SETTINGS)
        build_corpus(inputs, tokenizer_folder, tmp_path / "again", **SETTINGS)
        assert content(tmp_path / "corpus") == content(tmp_path / "again")


@pytest.mark.parametrize(
    ("bases", "unit"), [(1_000, 1 << 23), (500_000_000, 1 << 23), (4_000_000_000, 1 << 26), (10**11, 1 << 28)]
)
def test_units_grow_with_the_corpus_within_limits(bases, unit):
    scans = [InputScan([("contig", bases)], 1, bases, 0, 0, 0)]
    assert CorpusPlan(BuildSettings(), "", [], [], scans, []).unit_bases == unit
    assert CorpusPlan(BuildSettings(unit_bases=7), "", [], [], scans, []).unit_bases == 7
