"""The archive of GUE from a server to a folder of data sets."""

import hashlib
import io
import json
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from file_server import Offered, serving

from dnabert2_jax.data import gue_archive
from dnabert2_jax.data.download import download
from dnabert2_jax.data.gue_archive import download_gue, read_provenance
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import folder_lock

TABLE = b"sequence,label\nACGT,0\nTTTT,1\n"


def archive_of(**members: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


ARCHIVE = archive_of(
    **{
        "GUE/": b"",
        "GUE/EMP/H3/train.csv": TABLE,
        "GUE/README.md": b"# GUE",
        "__MACOSX/GUE/EMP/H3/._train.csv": b"shadow",
        "GUE/EMP/H3/._train.csv": b"shadow",
        "benchmark/GUE+/EPI/K562/dev.csv.gz": b"",
        "other/dev.csv": TABLE,
    }
)
SUM = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gue_archive, "download", partial(download, pauses=(0.0, 0.0)))


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_tables_are_unpacked_with_their_origin(tmp_path: Path):
    output = tmp_path / "new" / "gue"
    with serving(Offered(ARCHIVE)) as server:
        provenance = download_gue(output, url=server.url, sha256=SUM.upper())
    assert files_in(output) == ["GUE+/EPI/K562/dev.csv.gz", "GUE/EMP/H3/train.csv", "archive.json"]
    assert (output / "GUE/EMP/H3/train.csv").read_bytes() == TABLE
    assert (provenance.sha256, provenance.size) == (SUM, len(ARCHIVE))
    assert provenance.files == ["GUE+/EPI/K562/dev.csv.gz", "GUE/EMP/H3/train.csv"]
    assert read_provenance(output) == provenance
    assert [path.name for path in output.parent.iterdir()] == ["gue"]


def test_a_second_call_compares(tmp_path: Path):
    output = tmp_path / "gue"
    with serving(Offered(ARCHIVE)) as server:
        first = download_gue(output, url=server.url)
        assert download_gue(output, url=server.url, sha256=SUM) == first
        with pytest.raises(UserError, match=f"{SUM} and not the 0000"):
            download_gue(output, url=server.url, sha256="0" * 64)
        with pytest.raises(UserError, match="holds the archive of"):
            download_gue(output, url=f"{server.url}?other")
        assert len(server.ranges) == 1


def test_files_that_are_gone_are_named(tmp_path: Path):
    output = tmp_path / "gue"
    with serving(Offered(ARCHIVE)) as server:
        download_gue(output, url=server.url)
        (output / "GUE/EMP/H3/train.csv").unlink()
        with pytest.raises(UserError, match=r"lacks GUE/EMP/H3/train.csv of the 2 .* remove the folder"):
            download_gue(output, url=server.url)
        (output / "GUE+/EPI/K562/dev.csv.gz").unlink()
        with pytest.raises(UserError, match=r"lacks GUE\+/EPI/K562/dev.csv.gz and 1 others of the 2"):
            download_gue(output, url=server.url)
        assert len(server.ranges) == 1


def test_goes_on_after_an_interruption(tmp_path: Path):
    output = tmp_path / "gue"
    output.mkdir()  # an empty folder may be there
    with serving(Offered(ARCHIVE, cuts=100)) as server:
        with pytest.raises(UserError, match="run the same command again later"):
            download_gue(output, url=server.url)
        assert files_in(output) == []
        server.offered.cuts = 0
        server.ranges.clear()
        download_gue(output, url=server.url)
        assert server.ranges[0] is not None
    assert read_provenance(output)


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        (Offered(ARCHIVE[:-30]), "truncated or damaged"),
        (Offered(archive_of(**{"GUE/../../evil.csv": TABLE})), "leads out of its folder"),
        (Offered(archive_of(**{"other/train.csv": TABLE})), "has no GUE/….csv"),
        (Offered(b"plain text"), "neither zip nor tar"),
        (Offered(b"<html></html>"), "sends a web page"),
        (Offered(ARCHIVE, stalls=True), "nothing came for 0.3 seconds"),
    ],
)
def test_nothing_half_written_stays(offered: Offered, says: str, tmp_path: Path):
    output = tmp_path / "gue"
    with serving(offered) as server:
        with pytest.raises(UserError, match=says) as caught:
            download_gue(output, url=server.url, patience=0.3)
        assert str(caught.value).startswith(server.url)
        assert not output.exists()
        # What has arrived is kept, unless it was refused.
        assert [path.name for path in tmp_path.iterdir()] == ["gue.partial"] * offered.stalls
        # Nor does what was refused stand in the way of the next try.
        server.offered = Offered(ARCHIVE, etag='"two"')
        download_gue(output, url=server.url)
    assert [path.name for path in tmp_path.iterdir()] == ["gue"]


def test_another_checksum_is_refused(tmp_path: Path):
    with serving(Offered(ARCHIVE)) as server, pytest.raises(UserError, match=f"{SUM} and not the 1111"):
        download_gue(tmp_path / "gue", url=server.url, sha256="1" * 64)
    assert not (tmp_path / "gue").exists()


@pytest.mark.parametrize("sha256", ["", "12", "g" * 64])
def test_no_checksum_is_refused(sha256: str, tmp_path: Path):
    with pytest.raises(UserError, match="is no SHA-256"):
        download_gue(tmp_path / "gue", sha256=sha256)


def test_a_folder_with_something_else_stays(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        download_gue(tmp_path)
    (tmp_path / "archive.json").write_text(json.dumps({"url": 3}))
    with pytest.raises(UserError, match="exists already"):
        download_gue(tmp_path)
    assert files_in(tmp_path) == ["archive.json", "mine.txt"]


def test_two_downloads_to_one_folder(tmp_path: Path):
    (tmp_path / "gue.partial").mkdir()
    with (
        serving(Offered(ARCHIVE)) as server,
        folder_lock(tmp_path / "gue.partial"),
        pytest.raises(UserError, match="another run is writing here"),
    ):
        download_gue(tmp_path / "gue", url=server.url)


@pytest.mark.parametrize("offered", [Offered(ARCHIVE), Offered(b"plain text")])
def test_a_folder_of_that_name_that_holds_something_else_stays(offered: Offered, tmp_path: Path):
    mine = tmp_path / "gue.partial" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("keep")
    with serving(offered) as server, suppress(UserError):
        download_gue(tmp_path / "gue", url=server.url)
    assert mine.read_text() == "keep"
