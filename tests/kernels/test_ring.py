"""Rows over several devices: the op against float64, and how far keys travel for it."""

import json
from pathlib import Path

import pytest

_AGAINST_FLOAT64 = """
import sys
import jax, jax.numpy as jnp, numpy as np
from attention_checks import AttentionChecks, Results, make_case
from dnabert2_jax.kernels.attention import alibi_attention
from dnabert2_jax.parallel.mesh import make_mesh, split_rows, split_tokens
from dnabert2_jax.settings import MeshSettings

class OnARing(AttentionChecks):
    def __init__(self, body, **mesh):
        self.body, self.mesh = body, make_mesh(MeshSettings(**mesh))

    def compute(self, case, dtype, *, skip=True):
        with jax.enable_x64(dtype == "float64"):
            divides = case.q.shape[1] % self.mesh.shape["sequence"] == 0
            place = split_tokens(self.mesh) if divides else split_rows(self.mesh)
            given = [jax.device_put(np.asarray(array, jnp.dtype(dtype)), place) for array in case[:3]]
            segments = jax.device_put(case.q_segments, place)

            def loss(q, k, v):
                out, lse = alibi_attention(q, k, v, jnp.asarray(case.slopes), segment_ids=segments,
                                           implementation=self.body, return_lse=True, skip=skip)
                through_lse = jnp.where(jnp.isfinite(lse), lse, 0) * case.dlse
                return (out * case.dout).sum() + through_lse.sum(), (out, lse)

            gradients, (out, lse) = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*given)
            return Results(*(np.asarray(array, np.float64) for array in (out, lse, *gradients)))

body = sys.argv[1]
four = OnARing(body, data=2, sequence=4)
for layout in ("whole", "packed and padded", "nothing but padding", "disorderly"):
    four.compare(make_case(64, 4, 32, "float32", layout=layout), "float32")
four.compare(make_case(256, 4, 32, "bfloat16"), "bfloat16")
four.compare(make_case(256, 4, 32, "float64"), "float64")
four.compare(make_case(256, 4, 32, "float32"), "float32", skip=False)
four.compare(make_case(256, 3, 32, "float32", scale=1e4), "float32", exact_weights=True)
four.test_one_distant_giant_key("float32")
four.test_gradients_that_come_from_distant_rows_only("float32")
# Not as many tokens on each device: the row stays whole.
four.compare(make_case(66, 4, 32, "float32"), "float32")
for mesh in ({"data": 1, "sequence": 8}, {"data": 1, "sequence": 3}, {"sequence": 2, "tensor": 2}):
    OnARing(body, **mesh).compare(make_case(120, 4, 32, "float32"), "float32")
"""

_HOW_FAR = """
import json
from types import SimpleNamespace
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from dnabert2_jax.kernels import ring, xla
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.settings import MeshSettings

mesh = make_mesh(MeshSettings(data=1, sequence=8))
pairs, trips = set(), []

def counting_forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, **rest):
    jax.debug.callback(lambda q, k: pairs.add((int(q) // 64, int(k) // 64)), q_offset, k_offset)
    return xla.forward(q, k, v, slopes, q_segments, k_segments, q_offset, k_offset, **rest)

def visits(q, k, segments, slope):
    pairs.clear()
    trips.clear()
    attend = ring.Ring(SimpleNamespace(forward=counting_forward), "sequence", 8, tuple(mesh.axis_names))

    def forward(q, k, v, slopes, segments):
        plan = attend._plan(q, k, slopes, segments, segments, ring.lse_from_neighbours(
            q, k, slopes, segments, segments, 0, 0))
        jax.debug.callback(lambda hops: trips.append(int(hops)), plan.hops)
        return attend.forward(q, k, v, slopes, segments, segments, 0, 0, skip=True, interpret=False)[0]

    tokens = P(None, "sequence")
    jax.block_until_ready(jax.jit(jax.shard_map(
        forward, mesh=mesh, in_specs=(tokens, tokens, tokens, P(), tokens), out_specs=tokens, check_vma=False,
    ))(q, k, k, jnp.array([slope]), segments))
    jax.effects_barrier()
    assert len(set(trips)) == 1, trips
    return sorted(abs(i - j) for i, j in pairs), trips[0]

rng = np.random.default_rng(0)
q, k = rng.standard_normal((2, 1, 512, 1, 16)).astype(np.float32) / 4
one = np.ones((1, 512), np.int32)
giant = k.copy()
giant[:, 511] = 0
giant[:, 511, 0, 0] = 1e4
toward_it = q.copy()
toward_it[:, 0, 0, 0] = 5
print(json.dumps({
    "steep": visits(q, k, one, np.float32(0.5)),
    "flat": visits(q, k, one, np.float32(0.001)),
    "segment on each device": visits(q, k, 1 + np.arange(512, dtype=np.int32)[None] // 64, np.float32(0.001)),
    "one distant giant": visits(toward_it, giant, one, np.float32(0.5)),
}))
"""


def run(start_python, code: str, *arguments: str) -> str:
    process = start_python(
        code,
        *arguments,
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
        PYTHONPATH=str(Path(__file__).parent),
    )
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("body", ["xla", "blockwise"])
def test_rows_over_several_devices_hold_the_tolerances_of_every_body(start_python, body):
    run(start_python, _AGAINST_FLOAT64, body)


@pytest.mark.multiprocess
def test_keys_travel_as_far_as_they_are_felt(start_python):
    found = json.loads(run(start_python, _HOW_FAR))
    neighbours, hops = found["steep"]
    assert (neighbours, hops) == ([0] * 8 + [1] * 14, 1)  # an exchange with the neighbours
    everything, hops = found["flat"]
    assert len(everything) == 64  # each device meets each part exactly once
    assert hops == 4
    assert found["segment on each device"] == [[0] * 8, 0]
    far, hops = found["one distant giant"]
    # It is felt by the first token, on the first device, and is one hop away around the ring; the norm of
    # this query and that of this key bound what the others of their devices may feel.
    assert 7 in far
    assert len(far) < 64
