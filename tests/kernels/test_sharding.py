"""Batch and heads split over eight devices give what one device gives: values and gradients."""

import json

import numpy as np
import pytest

_CODE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from dnabert2_jax.kernels.alibi import alibi_slopes
from dnabert2_jax.kernels.attention import alibi_attention_qkv

body, batch, heads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
qkv = rng.standard_normal((batch, 50, 3 * heads * 32)).astype(np.float32)
segments = np.repeat([[1, 2, 0]], batch, 0).repeat([20, 20, 10], 1).astype(np.int32)
weights = rng.standard_normal((batch, 50, heads * 32)).astype(np.float32)

def loss(qkv, segments):
    slopes = jnp.asarray(alibi_slopes(heads))
    attended = alibi_attention_qkv(qkv, slopes, segment_ids=segments, implementation=body)
    return (attended * weights).sum(), attended

compute = jax.jit(jax.grad(loss, has_aux=True))
alone = compute(qkv, segments)
mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3)
axes = ("data", "fsdp") if batch % 4 == 0 else "data" if batch % 2 == 0 else None
rows = NamedSharding(mesh, PartitionSpec(axes))
given = jax.device_put((qkv, segments), rows)
compiled = compute.lower(*given).compile()
together = compute(*given)
gathered = [int(line.split("f32[")[1].split(",")[0]) for line in compiled.as_text().splitlines()
            if " all-gather(" in line and "f32[" in line]
print(json.dumps({
    "error": max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(alone, together)),
    "batch of what is gathered": max(gathered, default=0),
}))
"""


@pytest.mark.parametrize("body", ["xla", "blockwise"])
@pytest.mark.parametrize(("batch", "heads"), [(8, 4), (4, 3), (6, 4), (3, 3)])
def test_eight_devices_compute_what_one_does(start_python, body, batch, heads):
    process = start_python(
        _CODE, body, str(batch), str(heads), XLA_FLAGS="--xla_force_host_platform_device_count=8"
    )
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    result = json.loads(output)
    # Float32 sums of 50 terms, in another order.
    assert result["error"] < 1e-5
    if batch % 4 == 0:
        # Rows stay where they are.
        assert result["batch of what is gathered"] <= batch // 4
    assert np.isfinite(result["error"])
