"""Training on eight devices, however they share the work: what one device computes, to rounding."""

import json

import pytest

# The optimizer is linear in the gradients, so that parameters compare gradients: Adam's first steps are their
# signs, in which rounding can be everything.
_TRAIN_ON_EACH = """
import json, sys
import jax, msgspec, numpy as np, optax
from functools import partial
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.parallel.mesh import make_mesh, split_tokens
from dnabert2_jax.parallel.sharding import born
from dnabert2_jax.settings import DataSettings, MeshSettings, PretrainSettings, TrainingSettings
from dnabert2_jax.training.divisibility import refuse_what_does_not_divide
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

architecture = Architecture(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=64, initializer_range=0.1)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5, momentum=0.9))
rng = np.random.default_rng(0)
lengths = rng.integers(1, 65, (3, 16, 1))
segments = (np.arange(64) < lengths) * (1 + (np.arange(64) > lengths // 2))
ids = np.where(segments > 0, rng.integers(5, 64, (3, 16, 64)), 3)
soft_mask = rng.integers(0, 256, (3, 16, 64), dtype=np.uint8)

def train(mesh, **training):
    mesh = MeshSettings(**mesh)
    settings = PretrainSettings(
        model=architecture, mesh=mesh, data=DataSettings(sequence_length=64),
        training=TrainingSettings(steps=40_000, batch_size=16, compute_dtype="float32", repeat_weight=0.5,
                                  **training))
    mesh = make_mesh(mesh)
    refuse_what_does_not_divide(settings, mesh)
    state = born(partial(initial_state, architecture, optimizer, 0), mesh)
    step = make_train_step(settings, optimizer, mesh)
    figures = []
    for number in range(3):
        batch = {"input_ids": ids[number].astype(np.int32), "segment_ids": segments[number].astype(np.int32),
                 "soft_mask": soft_mask[number]}
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, jax.device_put(batch, split_tokens(mesh)))
        figures.append([float(metrics[name]) for name in ("loss", "accuracy", "gradient_norm")])
    return figures, {name: np.asarray(value) for name, value in state.parameters.items()}

alone_figures, alone = train(dict(data=1))
for case in json.loads(sys.argv[1]):
    figures, parameters = train(*case[:1], **case[1])
    print(json.dumps({
        "case": case,
        "figures": float(np.abs(np.array(figures) - alone_figures).max()),
        "parameters": max(float(np.abs(parameters[name] - alone[name]).max()) for name in alone),
        "name": max(alone, key=lambda name: np.abs(parameters[name] - alone[name]).max()),
    }))
"""

_CASES = [
    ({"data": 8}, {}),
    ({"fsdp": 8}, {}),
    ({"data": 2, "tensor": 4}, {}),
    ({"data": 1, "fsdp": 4, "tensor": 2}, {}),
    ({"data": 2, "sequence": 4}, {}),
    ({"fsdp": 2, "tensor": 2, "sequence": 2}, {}),
    ({"data": 1}, {"accumulate": 4}),
    ({"data": 2, "fsdp": 2}, {"accumulate": 4, "rematerialisation": "layers"}),
    ({"data": 1}, {"rematerialisation": "layers"}),
    ({"data": 1}, {"rematerialisation": "dots"}),
    ({"data": 2, "sequence": 2}, {"rematerialisation": "dots"}),
]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_every_way_to_share_the_work_trains_the_same_model(start_python):
    process = start_python(
        _TRAIN_ON_EACH, json.dumps(_CASES), XLA_FLAGS="--xla_force_host_platform_device_count=8"
    )
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    results = [json.loads(line) for line in output.splitlines()]
    assert len(results) == len(_CASES)
    for result in results:
        print(result)
        # Sums of float32 in another order: some ten roundings of losses of 4 and of gradients below 1.
        assert result["figures"] < 1e-5, result
        assert result["parameters"] < 1e-5, result


_BIRTH = """
import json
import jax
from functools import partial
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.parallel.sharding import abstract_state
from dnabert2_jax.settings import MeshSettings, OptimizerSettings
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.state import initial_state

architecture = Architecture(hidden_size=2048, num_hidden_layers=2, num_attention_heads=16,
                            intermediate_size=5504)
make = partial(initial_state, architecture, make_optimizer(OptimizerSettings(), 100_000), 0)
state = abstract_state(make, make_mesh(MeshSettings(fsdp=4, tensor=2)))
shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
compiled = jax.jit(make, out_shardings=shardings).lower().compile()
print(json.dumps({
    "state": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
    "whole": [leaf.shape for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated],
    "result": compiled.memory_analysis().output_size_in_bytes,
    "program": compiled.as_text(),
}))
"""


@pytest.mark.multiprocess
def test_a_state_is_born_in_parts(start_python):
    """Two layers of a model of a billion parameters: more layers are more of the same."""
    process = start_python(_BIRTH, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found = json.loads(output)
    assert found["result"] < 1.05 * found["state"] / 8
    # Nothing of the size of a parameter that is split exists on a device: no random bits, no number.
    assert len(found["whole"]) > 3 * 10
    for shape in found["whole"]:
        assert f"[{','.join(map(str, shape))}]" not in found["program"], shape
