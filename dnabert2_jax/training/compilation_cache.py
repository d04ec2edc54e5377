"""Where compiled programs are kept from one start to the next: a setting in, JAX's configuration changed.

For commands only, before anything is compiled: a library does not change what its caller has configured.
"""

import os
import tempfile
import warnings
from pathlib import Path

import jax

from dnabert2_jax.errors import InputWarning


def use_compilation_cache(setting: str) -> None:
    """Keeps compiled programs in a folder, and takes them from there.

    Args:
      setting: a folder; "user" for one in the user's cache; "" for none. What JAX has been told otherwise,
        as by JAX_COMPILATION_CACHE_DIR, stands. Where the folder cannot be written a notice is given, and
        programs are compiled anew.
    """
    if not setting or jax.config.jax_compilation_cache_dir:
        return
    folder = _users_folder() if setting == "user" else Path(setting).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(
            InputWarning(
                f"{folder}: compiled programs cannot be kept there: {error.strerror}; each start compiles "
                "them again"
            ),
            stacklevel=2,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _users_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dnabert2_jax" / "compiled"
