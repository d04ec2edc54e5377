"""Models by their hub name, from a hub that runs in a thread of the test."""

import json
import os
import re
import resource
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from flax import nnx
from hub_server import Hub, Repository, running_hub
from huggingface_hub import constants

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.inference.hub import model_folder
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.model.adapter_folder import write_adapter
from dnabert2_jax.model.lora import build_adapted
from dnabert2_jax.model.lora_settings import Lora
from dnabert2_jax.model.parameters import split

MODEL = "lab/dna-model"
NEWER = "b" * 40
CODE = {"bert_layers.py": b"raise SystemExit", "configuration_bert.py": b"raise SystemExit"}
SMALL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": bytes(300_000)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and huggingface_hub set to ask it and to keep its cache in a folder of the test."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running_hub() as server:
        settings = {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_ETAG_TIMEOUT": 0.4,
            "HF_HUB_DOWNLOAD_TIMEOUT": 0.4,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        # The session read its settings of proxies when it was made.
        huggingface_hub.close_session()
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the attempts after a failure follow at once; time-outs stay."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refusal(source: str = MODEL, revision: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        model_folder(source, revision)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_is_taken_as_it_is(hub: Hub, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tiny_model.parent)
    assert model_folder(tiny_model) == model_folder(str(tiny_model)) == tiny_model
    assert model_folder(tiny_model.name) == Path(tiny_model.name)
    assert "has no revision 'v1'" in refusal(str(tiny_model), "v1")
    assert "is a file" in refusal(str(tiny_model / "config.json"))
    assert hub.asked == []


@pytest.mark.parametrize(
    "source",
    [
        "model",
        "./lab/model",
        "../model",
        "/lab/model",
        "~/lab/model",
        "~nobody-here/model",
        "lab/model/best",
        "lab/",
        "lab/dna model",
        "lab/dna--model",
        "lab/..",
        "there/model",
        "läb/model",
        Path("lab/model"),
    ],
)
def test_what_no_hub_name_is_like_is_a_folder(
    source: str | Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="no such model folder"):
        model_folder(source)
    assert hub.asked == []


def test_the_released_layout_loads_without_its_code(hub: Hub, shared: Path):
    stored = contents(shared / "golden" / "hf_tiny_mlm")
    hub.repositories[MODEL] = Repository(stored | CODE | {"README.md": b"", "flax_model.msgpack": b""})
    folder = model_folder(MODEL)
    needed = {"config.json", "tokenizer.json", "tokenizer_config.json", "pytorch_model.bin"}
    assert contents(folder) == {name: stored[name] for name in needed}
    resolved = [path for path in hub.asked if "/resolve/" in path]
    assert {path.rpartition("/")[2] for path in resolved} == needed
    expected = np.load(shared / "golden" / "hf_tiny_mlm" / "expected.npz")
    hidden = from_pretrained(folder).hidden_states(expected["input_ids"], expected["attention_mask"])
    np.testing.assert_allclose(hidden, expected["last_hidden_state"], atol=2e-5)


def test_safetensors_are_preferred(hub: Hub, tiny_model: Path):
    stored = contents(tiny_model)
    hub.repositories[MODEL] = Repository(stored | CODE | {"pytorch_model.bin": b"never asked for"})
    folder = model_folder(MODEL)
    assert contents(folder) == {name: data for name, data in stored.items() if name != "README.md"}
    assert from_pretrained(folder).tokenizer.vocab_size == 64
    assert not [path for path in hub.asked if path.endswith((".py", ".bin"))]


def test_all_shards_of_an_index_come(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}).encode()
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": index}
    files |= {shard: shard.encode() for shard in shards}
    hub.repositories[MODEL] = Repository(files | {"pytorch_model.bin": b"", "model-x.safetensors": b""})
    folder = model_folder(MODEL)
    assert contents(folder) == files
    (folder / shards[1]).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not complete in" in refusal()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b'{"weight_map": {"a": "bert_layers.py"}}', r"names 'bert_layers\.py'"),
        (b'{"weight_map": {"a": "../../x.safetensors"}}', "names '../../x"),
        (b'{"weight_map": {"a": 3}}', "names '3'"),
        (b'{"weight_map": []}', "has no weight_map"),
        (b"[" * 100_000, r"model\.safetensors\.index\.json: "),
    ],
)
def test_an_index_that_names_anything_else_is_refused(hub: Hub, index: bytes, message: str):
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": index}
    hub.repositories[MODEL] = Repository(files | CODE)
    assert re.search(message, refusal())
    assert not [path for path in hub.asked if path.endswith((".py", "x.safetensors"))]


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_needs_no_model(hub: Hub, weights: str):
    files = {"adapter_config.json": b"{}", weights: b"weights"}
    hub.repositories[MODEL] = Repository(files | CODE | {"training_args.bin": b""})
    assert contents(model_folder(MODEL)) == files


def test_an_adapter_names_the_revision_of_its_base(hub: Hub, tiny_model: Path, tmp_path: Path):
    hub.repositories[MODEL] = Repository(contents(tiny_model))
    base = from_pretrained(tiny_model)
    lora = Lora(targets=("Wqkv",))
    _, parameters = split(build_adapted(base.description, lora, nnx.Rngs(0)))
    write_adapter(tmp_path / "adapter", lora, MODEL, base.description, parameters, revision="main")
    np.testing.assert_allclose(
        from_pretrained(tmp_path / "adapter").embed(["ACGTT"]), base.embed(["ACGTT"]), atol=1e-6
    )
    write_adapter(tmp_path / "adapter", lora, MODEL, base.description, parameters, revision="gone")
    with pytest.raises(UserError, match="the hub has no revision 'gone' of it"):
        from_pretrained(tmp_path / "adapter")
    # A folder has no revisions: it is taken as it is.
    base.save_pretrained(tmp_path / "adapter" / MODEL)
    assert from_pretrained(tmp_path / "adapter").description == base.description


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_repository_without_a_model_is_refused_before_its_weights_come(hub: Hub, lacking: str):
    files = {name: data for name, data in SMALL.items() if name != lacking}
    hub.repositories[MODEL] = Repository(files | CODE)
    assert "holds no model that can be read" in refusal()
    assert len(hub.asked) == 1


def test_branches_tags_and_commits(hub: Hub):
    repository = hub.repositories[MODEL] = Repository(dict(SMALL))
    first = model_folder(MODEL)
    assert model_folder(MODEL, "a" * 40) == first
    hub.asked.clear()
    assert model_folder(MODEL) == first
    assert hub.asked == [f"GET /api/models/{MODEL}"]
    hub.asked.clear()
    assert model_folder(MODEL, "a" * 40) == first
    assert hub.asked == []

    repository.files["config.json"] = b'{"vocab_size": 64}'
    repository.revisions |= {"main": NEWER, "v1": "a" * 40, "work/in-progress": NEWER}
    second = model_folder(MODEL)
    assert second != first
    assert contents(second) == SMALL | {"config.json": b'{"vocab_size": 64}'}
    assert not [path for path in hub.asked if path.startswith("GET") and path.endswith("safetensors")]
    assert model_folder(MODEL, "v1") == first
    assert model_folder(MODEL, "work/in-progress") == second
    assert "no revision 'v2'" in refusal(MODEL, "v2")


def test_a_token_opens_a_private_model(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    hub.repositories[MODEL] = Repository(SMALL, token="hf_secret")
    message = refusal()
    assert "(401)" in message
    assert "set HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert contents(model_folder(MODEL)) == SMALL


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("refuses", "message", "attempts"),
    [
        ((401, ""), "shows no such model (401); check the name, and for a private model set HF_TOKEN", 1),
        ((403, "GatedRepo"), f"accept its terms at http://127.0.0.1:PORT/{MODEL} and set HF_TOKEN", 1),
        ((403, ""), "the hub refuses access to it (403)", 1),
        ((404, "RepoNotFound"), "no such model folder, and the hub shows no such model (404)", 1),
        ((429, ""), "too many requests (429); try again later", 3),
        ((500, ""), "http://127.0.0.1:PORT answers with status 500; try again later", 3),
        ((503, ""), "http://127.0.0.1:PORT answers with status 503; try again later", 3),
    ],
)
def test_a_hub_that_refuses(hub: Hub, refuses: tuple[int, str], message: str, attempts: int):
    hub.repositories[MODEL] = Repository(SMALL, refuses=refuses)
    assert message in refusal().replace(hub.endpoint, "http://127.0.0.1:PORT")
    assert len(hub.asked) == attempts


@pytest.mark.usefixtures("no_pauses")
def test_a_hub_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    repository = hub.repositories[MODEL] = Repository(dict(SMALL))
    folder = model_folder(MODEL)
    hub.asked.clear()
    repository.refuses = (503, "")
    with pytest.warns(
        InputWarning, match=f"{MODEL}: .* status 503; the copy from an earlier download is used"
    ):
        assert model_folder(MODEL) == folder
    assert len(hub.asked) == 1
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(InputWarning, match=r"the connection to http://127\.0\.0\.1:9 failed \(.*refused\)"):
        assert model_folder(MODEL) == folder
    assert "check the network" in refusal("lab/other")
    monkeypatch.setattr(constants, "ENDPOINT", "no-address")
    assert "the connection to no-address failed" in refusal("lab/other")


@pytest.mark.parametrize(
    "stranger",
    [Repository(SMALL, refuses=(200, "")), Repository(SMALL, revisions={"main": "../../elsewhere"})],
    ids=["a page to log in to the network", "no commit"],
)
def test_an_answer_that_no_hub_gives(hub: Hub, stranger: Repository):
    hub.repositories[MODEL] = stranger
    assert "does not answer like a hub" in refusal()


def test_offline_takes_what_is_in_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    hub.repositories[MODEL] = Repository(SMALL, revisions={"main": "a" * 40, "v1": NEWER})
    folder = model_folder(MODEL)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model_folder(MODEL) == folder
    assert "unset HF_HUB_OFFLINE or name a model folder" in refusal(MODEL, "v1")
    assert "unset HF_HUB_OFFLINE" in refusal("lab/other")
    assert hub.asked == []


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("step", ["listing", "head", "body"])
def test_a_hub_that_falls_silent_is_given_up(hub: Hub, step):
    hub.repositories[MODEL] = Repository(SMALL, stalls_at=step)
    started = time.monotonic()
    assert re.search(r"the connection to .* failed \(.*timed out\); check the network", refusal())
    assert time.monotonic() - started < 10
    hub.repositories[MODEL].stalls_at = None
    assert contents(model_folder(MODEL)) == SMALL


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (Repository(SMALL, cuts=1_000), "the connection to .* failed"),
        (Repository(SMALL, loses=1), "could not be downloaded"),
    ],
)
def test_a_truncated_file_never_gets_into_the_cache(
    hub: Hub, damaged: Repository, message: str, monkeypatch: pytest.MonkeyPatch
):
    hub.repositories[MODEL] = damaged
    assert re.search(message, refusal())
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "not complete in" in refusal()
    hub.repositories[MODEL] = Repository(SMALL)
    assert contents(model_folder(MODEL)) == SMALL


@pytest.mark.usefixtures("no_pauses")
def test_the_complete_files_of_a_broken_download_are_kept(hub: Hub):
    hub.repositories[MODEL] = Repository(SMALL, cuts=1_000)
    refusal()
    hub.repositories[MODEL].cuts = 0
    hub.asked.clear()
    assert contents(model_folder(MODEL)) == SMALL
    bodies = [path.rpartition("/")[2] for path in hub.asked if path.startswith("GET /lab")]
    assert bodies == ["model.safetensors"]


@pytest.mark.usefixtures("no_pauses")
def test_a_broken_connection_resumes_where_it_was(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    weights = np.random.default_rng(0).bytes(1_000_000)
    files = SMALL | {"model.safetensors": weights}
    hub.repositories[MODEL] = Repository(files, cuts=4)
    assert contents(model_folder(MODEL)) == files
    assert max(int(asked.removeprefix("bytes=").removesuffix("-")) for asked in hub.ranges) > 500_000


def test_a_full_disk(hub: Hub, tmp_path: Path):
    hub.repositories[MODEL] = Repository(SMALL)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        message = refusal()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{tmp_path / 'cache'}: cannot be written: File too large" in message
    assert contents(model_folder(MODEL)) == SMALL


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path):
    hub.repositories[MODEL] = Repository(SMALL)
    (tmp_path / "cache").write_text("in the way")
    message = refusal()
    assert str(tmp_path / "cache") in message
    assert "set HF_HOME" in message


def test_a_process_takes_its_settings_from_the_environment(hub: Hub, tmp_path: Path, start_python):
    hub.repositories[MODEL] = Repository(SMALL, token="hf_secret")
    hub.repositories["lab/silent"] = Repository(SMALL, token="hf_secret", stalls_at="head")
    code = """
import sys, time
from dnabert2_jax.errors import UserError
from dnabert2_jax.inference.hub import model_folder
assert "huggingface_hub" not in sys.modules
time.sleep = lambda _: None
print(model_folder("lab/dna-model"))
started = time.monotonic()
try:
    model_folder("lab/silent")
except UserError as error:
    print(error)
print(time.monotonic() - started)
"""
    process = start_python(
        code,
        HF_ENDPOINT=hub.endpoint,
        HF_HOME=str(tmp_path / "home"),
        HF_TOKEN="hf_secret",
        HF_HUB_ETAG_TIMEOUT="1",
        HF_HUB_DOWNLOAD_TIMEOUT="1",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    output, errors = process.communicate(timeout=60)
    assert errors == ""
    folder, message, seconds = output.splitlines()
    assert Path(folder).is_relative_to(tmp_path / "home" / "hub")
    assert contents(Path(folder)) == SMALL
    assert message.startswith(f"lab/silent: the connection to {hub.endpoint} failed")
    assert float(seconds) < 10
