"""Views of a mapped file: copied out of it, given back, and still right when they are read again."""

import mmap

import numpy as np
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.mapped_file import copy_out, map_file, release_pages

FLOAT = np.dtype(np.float32)


@pytest.fixture
def view(tmp_path):
    """[600, 700], 1.7 MB of a file that begins with 12 other bytes."""
    numbers = np.random.default_rng(0).standard_normal((600, 700)).astype(np.float32)
    (tmp_path / "file").write_bytes(bytes(12) + numbers.tobytes())
    return np.ndarray((600, 700), FLOAT, map_file(tmp_path / "file"), 12)


@pytest.mark.parametrize("part", [np.s_[:], np.s_[3:7, 100:], np.s_[5], np.s_[:, 9], np.s_[2, 3]])
@pytest.mark.parametrize("turned", [False, True])
def test_a_copy_is_the_array_in_memory_of_its_own(view, part, turned):
    array = (view.T if turned else view)[part]
    copy = copy_out(np.asarray(array), FLOAT)
    np.testing.assert_array_equal(copy, array)
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    assert copy.ctypes.data % 64 == 0
    assert not np.shares_memory(copy, view)


def test_a_copy_is_widened(view):
    half = view.astype(np.float16)
    np.testing.assert_array_equal(copy_out(half.T, FLOAT), half.T.astype(np.float32))


def test_pages_that_were_given_back_are_read_again(view):
    before = view.sum(dtype=np.float64)
    resident = resident_file_pages()
    release_pages(view.T[10:])
    assert resident_file_pages() < resident - 350  # of 410
    assert view.sum(dtype=np.float64) == before
    release_pages(np.zeros(3))  # owns its numbers


def resident_file_pages() -> int:
    with open("/proc/self/status") as file:
        sizes = {line.split(":")[0]: line.split()[1] for line in file if line.startswith("Rss")}
    return (int(sizes["RssFile"]) + int(sizes["RssShmem"])) * 1024 // mmap.PAGESIZE


def test_files_that_cannot_be_mapped(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for name, reason in [("empty", "is empty"), ("absent", "no such file"), (".", "Is a directory")]:
        with pytest.raises(UserError, match=reason):
            map_file(tmp_path / name)
