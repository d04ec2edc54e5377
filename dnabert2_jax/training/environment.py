"""What a result depends on besides the settings: versions and devices."""

import platform
from importlib.metadata import version

import jax

import dnabert2_jax


def describe_environment() -> dict[str, str]:
    """Names and versions of what computes here, for reports and result files."""
    devices = jax.devices()
    libraries = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {
        "dnabert2_jax": dnabert2_jax.__version__,
        **libraries,
        "Python": platform.python_version(),
        "device": f"{len(devices)} × {devices[0].device_kind}",
        "system": f"{platform.system()} {platform.machine()}",
    }
