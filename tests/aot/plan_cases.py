"""Plans whose collectives are kept in golden/, one file for each: what is planned, and what was found.

    JAX_PLATFORMS=cpu python tests/aot/plan_cases.py

writes them anew, after a change of the step or of libtpu that is meant to change them.
"""

import json
from pathlib import Path
from typing import Any

from dnabert2_jax.config import load_settings
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.plan import Plan, plan

GOLDEN = Path(__file__).parent / "golden"

# 64 windows on each of 16 chips, which fit the smallest.
_BATCH = "--training.batch_size=1024"
_SPLIT = ("--mesh.fsdp=4", "--mesh.tensor=2")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "v5e_data": ("v5e:4x4", ()),
    "v5e_fsdp_tensor": ("v5e:4x4", _SPLIT),
    "v5p_data": ("v5p:2x2x4", ()),
    "v5p_fsdp_tensor": ("v5p:2x2x4", _SPLIT),
}


def make_plan(case: str) -> Plan:
    """The plan of the published configuration."""
    topology, mesh = CASES[case]
    settings = load_settings(PretrainSettings, "dnabert2_117m_paper", [_BATCH, *mesh])
    return plan(settings, topology, largest_batch=False)


def summary(case: str, found: Plan) -> dict[str, Any]:
    """What is kept of a plan: number and bytes of the collectives by kind and size of group."""
    assert found.work is not None
    topology, mesh = CASES[case]
    return {
        "topology": topology,
        "settings": [_BATCH, *mesh],
        "collectives": {
            f"{one.kind} among {one.group}": {"count": one.count, "bytes": one.bytes}
            for one in found.work.collectives
        },
    }


if __name__ == "__main__":
    for name in CASES:
        path = GOLDEN / f"{name}.json"
        path.write_text(json.dumps(summary(name, make_plan(name)), indent=1) + "\n")
        print(path.read_text())
