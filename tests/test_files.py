"""Files and folders that appear whole or not at all, and the lock on a folder."""

import errno
import fcntl
import hashlib
import os
import stat

import pytest

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.files import (
    atomic_file,
    atomic_folder,
    check_writable,
    folder_lock,
    refuse_existing,
    sha256_file,
)


class Accident(Exception):
    pass


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "down" / "file.txt"
    with atomic_file(path, "w") as file:
        file.write("ACGT é")
        assert not path.exists()
    assert path.read_bytes() == "ACGT é".encode()
    assert [other.name for other in path.parent.iterdir()] == ["file.txt"]


def test_an_accident_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise Accident

    with pytest.raises(Accident):
        write_half()
    assert path.read_bytes() == b"old"
    assert [other.name for other in tmp_path.iterdir()] == ["file"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_file(tmp_path / "atomic") as file:
        file.write(b"")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_file_is_not_written_over_a_folder_or_below_a_file(tmp_path):
    with pytest.raises(UserError, match="is a folder"), atomic_file(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), atomic_file(tmp_path / "file" / "below"):
        pass


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_an_accident_leaves_no_folder(tmp_path):
    def fill_half() -> None:
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "a").write_text("1")
            raise Accident

    with pytest.raises(Accident):
        fill_half()
    assert list(tmp_path.iterdir()) == []


def test_an_accident_leaves_the_folder_that_was_to_give_way(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(Accident), atomic_folder(tmp_path / "folder", replace=True):
        raise Accident
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old"]


def test_a_folder_gives_way_where_it_shall(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(UserError, match="exists already"), atomic_folder(target):
        pass
    with atomic_folder(target, replace=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_never_gives_way_to_a_folder(tmp_path, replace):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="file: "), atomic_folder(tmp_path / "file", replace=replace):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty")
    refuse_existing(tmp_path / "none")
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "a").touch()
    with pytest.raises(UserError, match="exists already"):
        refuse_existing(tmp_path / "empty")


@pytest.mark.parametrize("begin_with_an_empty_folder", [False, True])
def test_the_later_of_two_writers_of_a_new_folder_is_refused(tmp_path, begin_with_an_empty_folder):
    target = tmp_path / "folder"
    if begin_with_an_empty_folder:
        target.mkdir()

    def write_twice() -> None:
        with atomic_folder(target) as later:
            (later / "later").touch()
            with atomic_folder(target) as earlier:
                (earlier / "earlier").touch()

    with pytest.raises(UserError, match="folder: exists already"):
        write_twice()
    assert [path.name for path in target.iterdir()] == ["earlier"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_that_appears_meanwhile_stays(tmp_path):
    with pytest.raises(UserError, match="exists already"), atomic_folder(tmp_path / "folder"):
        (tmp_path / "folder").write_text("precious")
    assert (tmp_path / "folder").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("leads_to", ["empty", "nowhere"])
def test_a_link_is_refused_at_once(tmp_path, leads_to):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / leads_to)
    with pytest.raises(UserError, match="link: exists already"):
        refuse_existing(tmp_path / "link")


def test_whether_a_file_can_be_written_is_found_out_without_a_trace(tmp_path):
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "deep" / "down" / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")
    for below in ("file/a", "file/deep/a"):
        with pytest.raises(UserError, match=f"{below}: cannot be written: Not a directory"):
            check_writable(tmp_path / below)


def test_a_file_in_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable("file")
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        check_writable("file")


def test_checksum(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_one_run_at_a_time(tmp_path):
    with (
        folder_lock(tmp_path),
        pytest.raises(UserError, match="another run is writing here"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_not_locked(tmp_path):
    with (
        pytest.raises(UserError, match="none: cannot be written: No such file"),
        folder_lock(tmp_path / "none"),
    ):
        pass
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="cannot be written: Is a directory"), folder_lock(tmp_path):
        pass


@pytest.mark.multiprocess
def test_the_lock_of_a_dead_process_is_free(tmp_path, start_python):
    code = (
        "import sys, time; from dnabert2_jax.files import folder_lock\n"
        "with folder_lock(sys.argv[1]): print('locked', flush=True); time.sleep(60)"
    )
    process = start_python(code, tmp_path)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match="another run"), folder_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    with folder_lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch):
    def refuse(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(InputWarning, match="no locks"), folder_lock(tmp_path):
        pass
