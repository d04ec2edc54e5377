"""Model folders of every kind become the model that they hold, on one device or many, or are refused."""

import json
import shutil
import warnings

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.folder import ModelDescription, read_description, write_model
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.loading import load_tokenizer


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A model folder to change."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def rewrite(folder, change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def reconfigure(folder, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def check_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_shards_with_an_index_are_the_model(copy, tiny_model):
    state = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    places = {key: f"part-{index % 2}.safetensors" for index, key in enumerate(sorted(state))}
    for shard in set(places.values()):
        save_file({key: state[key] for key in state if places[key] == shard}, copy / shard)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    check_same(from_pretrained(copy).parameters, from_pretrained(tiny_model).parameters)


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float64"])
def test_weights_of_any_width_become_float32(copy, stored):
    rewrite(copy, lambda state: state.update({key: array.astype(stored) for key, array in state.items()}))
    expected = load_file(copy / "model.safetensors")["bert.encoder.layer.1.mlp.wo.weight"]
    found = from_pretrained(copy).parameters["encoder.blocks.1.feed_forward.output.kernel"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.T.astype(np.float32))


def test_the_model_outlives_its_file(copy):
    model = from_pretrained(copy)
    before = {name: np.array(array) for name, array in model.parameters.items()}
    with open(copy / "model.safetensors", "r+b") as file:
        file.write(bytes((copy / "model.safetensors").stat().st_size))
    check_same(model.parameters, before)


def test_a_missing_classifier_starts_as_a_new_model_does(copy):
    reconfigure(copy, architectures=["BertForSequenceClassification"], id2label={"0": "no", "1": "yes"})
    with (
        pytest.warns(InputWarning, match="lack the pooler and the classifier, which start at random"),
        pytest.warns(InputWarning, match="not used: cls"),
    ):
        model = from_pretrained(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        check_same(from_pretrained(copy).parameters, model.parameters)
    _, fresh = split(read_description(copy).build(nnx.Rngs(0)))
    assert model.parameters.keys() == fresh.keys()
    for name in ("pooler.dense.kernel", "pooler.dense.bias", "classifier.kernel", "classifier.bias"):
        # Compiled, the draws of the normal distribution may differ in the last bits.
        np.testing.assert_allclose(model.parameters[name], fresh[name], rtol=1e-5, atol=1e-8)
    with pytest.raises(UserError, match="lack its classifier"):
        model.predict(["ACGT"])
    assert model.embed(["ACGT"]).shape == (1, model.description.architecture.hidden_size)


def test_a_missing_head_starts_in_float64_where_the_model_is(copy):
    rewrite(copy, lambda state: [state.pop(key) for key in list(state) if key.startswith("cls.")])
    with pytest.warns(InputWarning, match="the masked-language-model head"):
        model = from_pretrained(copy, "float64")
    assert {array.dtype for array in model.parameters.values()} == {np.dtype(np.float64)}
    with pytest.raises(UserError, match="lack the masked-language-model head"):
        model.mlm_logits(model.tokenizer.encode("ACGT")[None])


def test_a_folder_of_our_own_gives_no_notice(tiny_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        from_pretrained(tiny_model)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop("bert.encoder.layer.0.mlp.wo.bias"), "the weights lack"),
        (lambda state: state.update({"bert.something.weight": np.zeros(3)}), "does not have"),
        (lambda state: state.update({"bert.embeddings.LayerNorm.bias": np.zeros(3)}), "has shape"),
        (
            lambda state: state.update({"bert.embeddings.position_embeddings.weight": np.zeros(3)}),
            "DNABERT-1",
        ),
    ],
)
def test_weights_of_another_architecture(copy, change, complaint):
    rewrite(copy, change)
    with pytest.raises(UserError, match=complaint) as raised:
        from_pretrained(copy)
    assert str(copy) in str(raised.value)


def test_dnabert_1_is_refused_for_what_it_is_though_its_tokenizer_is_another(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    (copy / "vocab.txt").write_text("[PAD]\nAAAAAA\n")
    rewrite(copy, lambda state: state.update({"bert.embeddings.position_embeddings.weight": np.zeros(3)}))
    with pytest.raises(UserError, match="as DNABERT-1"):
        from_pretrained(copy)


def test_nucleotide_transformer_is_refused_by_its_configuration_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "esm", "vocab_size": 4107}')
    with pytest.raises(UserError, match=r"config\.json: describes a model of the type 'esm' \(as Nucleotide"):
        from_pretrained(tmp_path)


def test_weights_with_more_layers_than_the_configuration(copy):
    reconfigure(copy, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"the weights have 2 layers and config\.json describes 1"):
        from_pretrained(copy)


def test_a_head_that_is_not_used_may_lie_in_the_file(copy):
    rewrite(copy, lambda state: state.update({"bert.pooler.dense.bias": np.zeros(32, np.float32)}))
    with pytest.warns(InputWarning, match=r"not used: bert\.pooler\.dense\.bias$"):
        assert from_pretrained(copy).embed(["ACGT"]).shape == (1, 32)


def test_a_tokenizer_of_another_model(copy, shared):
    (copy / "tokenizer.model").unlink()
    shutil.copy(shared / "golden" / "tokenizer.json", copy / "tokenizer.json")
    with pytest.raises(UserError, match="the tokenizer has 4096 tokens and the model 64"):
        from_pretrained(copy)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_folder(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(UserError, match=missing):
        from_pretrained(copy)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        from_pretrained(tmp_path / "nowhere")


def test_no_such_type(tiny_model):
    with pytest.raises(UserError, match="dtype is 'float8'"):
        from_pretrained(tiny_model, dtype="float8")  # pyright: ignore[reportArgumentType]


_ON_EIGHT_DEVICES = """
import sys, warnings
import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.parallel.sharding import parameter_sharding

folder, headless = sys.argv[1:]
mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
alone, sharded = from_pretrained(folder), from_pretrained(folder, mesh=mesh)
assert sharded.parameters.keys() == alone.parameters.keys()
for name, array in sharded.parameters.items():
    assert array.sharding == parameter_sharding(mesh, name, array.shape), name
    np.testing.assert_array_equal(array, alone.parameters[name])
    assert len(array.addressable_shards) == 8
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.asarray(alone.parameters[name])[shard.index])
word = sharded.parameters["encoder.embeddings.word"]
assert word.addressable_shards[0].data.shape == (64 // 4, 32 // 2)
qkv = sharded.parameters["encoder.blocks.0.attention.qkv.kernel"]
assert qkv.addressable_shards[0].data.shape == (32 // 8, 96)

ids = np.random.default_rng(0).integers(5, 64, (4, 50))
mask = np.ones_like(ids)
mask[1, 30:] = 0
# Sums over up to 64 numbers of size 1 in another order: some tens of float32 roundings.
close = dict(rtol=0, atol=5e-6)
np.testing.assert_allclose(sharded.hidden_states(ids, mask), alone.hidden_states(ids, mask), **close)
np.testing.assert_allclose(sharded.mlm_logits(ids, mask), alone.mlm_logits(ids, mask), **close)
sequences = ["".join(np.random.default_rng(n).choice(list("ACGT"), 20 * n)) for n in range(1, 12)]
np.testing.assert_allclose(sharded.embed(sequences), alone.embed(sequences), **close)

with warnings.catch_warnings(record=True) as notices:
    warnings.simplefilter("always")
    sharded = from_pretrained(headless, mesh=mesh)
assert ["random" in str(notice.message) for notice in notices] == [True]
kernel = sharded.parameters["head.dense.kernel"]
assert kernel.sharding.spec == P("fsdp") and float(abs(np.asarray(kernel)).max()) > 0
"""


@pytest.mark.multiprocess
def test_parameters_are_born_on_the_devices_of_a_mesh(copy, tiny_model, start_python):
    rewrite(copy, lambda state: [state.pop(key) for key in list(state) if key.startswith("cls.")])
    process = start_python(
        _ON_EIGHT_DEVICES, tiny_model, copy, XLA_FLAGS="--xla_force_host_platform_device_count=8"
    )
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors


_PEAK = """
import sys
from pathlib import Path
import jax
import numpy as np
from dnabert2_jax.inference.loading import from_pretrained

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))

from_pretrained(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
before = memory("VmRSS")
model = from_pretrained(sys.argv[2])
jax.block_until_ready(model.parameters)
size = sum(array.nbytes for array in model.parameters.values())
loading = (memory("VmHWM") - before) / size
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
model.save_pretrained(sys.argv[3])
print(size, loading, 1 + (memory("VmHWM") - before) / size)
"""


def test_neither_loading_nor_saving_holds_the_parameters_twice(
    tiny_model, tiny_tokenizer, start_python, tmp_path
):
    description = ModelDescription(
        Architecture(
            vocab_size=64,
            hidden_size=512,
            num_hidden_layers=8,
            num_attention_heads=8,
            intermediate_size=2048,
        )
    )
    _, shapes = description.abstract()
    flat = {name: np.broadcast_to(np.float32(0.5), shape.shape) for name, shape in shapes.items()}
    write_model(tmp_path / "large", description, flat)
    load_tokenizer(tiny_tokenizer).save(tmp_path / "large")
    process = start_python(_PEAK, tiny_model, tmp_path / "large", tmp_path / "saved")
    output, errors = process.communicate(timeout=180)
    shutil.rmtree(tmp_path / "saved")
    shutil.rmtree(tmp_path / "large")
    assert process.returncode == 0, errors
    size, loading, saving = map(float, output.split())
    assert size > 130e6
    assert loading < 1.3
    assert saving < 1.3


def test_arrays_lie_on_the_default_device(tiny_model):
    for array in from_pretrained(tiny_model).parameters.values():
        assert array.devices() == {jax.devices()[0]}
        assert isinstance(array, jax.Array)
