"""Compiled programs: kept where the setting says, and not at all where that cannot be written."""

from pathlib import Path

import jax
import pytest

from dnabert2_jax.errors import InputWarning
from dnabert2_jax.training.compilation_cache import use_compilation_cache


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch, tmp_path):
    """JAX without a cache, as it was before afterwards, and a user without one."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def folder() -> Path | None:
    configured = jax.config.jax_compilation_cache_dir
    return configured and Path(configured)


def test_a_folder(tmp_path):
    use_compilation_cache(str(tmp_path / "new" / "one"))
    assert folder() == tmp_path / "new" / "one"


def test_the_user_s(tmp_path, monkeypatch):
    use_compilation_cache("user")
    assert folder() == tmp_path / "cache" / "dnabert2_jax" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    jax.config.update("jax_compilation_cache_dir", None)
    use_compilation_cache("user")
    assert folder() == tmp_path / "home" / ".cache" / "dnabert2_jax" / "compiled"


def test_none():
    use_compilation_cache("")
    assert folder() is None


def test_what_jax_was_told_stands(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    use_compilation_cache("user")
    assert folder() == tmp_path / "mine"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(
        InputWarning, match=r"file/cache: compiled programs cannot be kept there: Not a directory"
    ):
        use_compilation_cache(str(tmp_path / "file" / "cache"))
    assert folder() is None
