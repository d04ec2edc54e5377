"""Which body a request gets, and what is said about it."""

import warnings
from dataclasses import replace

import pytest

from dnabert2_jax.kernels import bodies
from dnabert2_jax.kernels.bodies import Request, choose, explain_choice

HERE = Request("cpu", "cpu", "float32", 32, 128, 128, 12, 64)
A_GPU = replace(HERE, platform="gpu", device_kind="NVIDIA A100-SXM4-40GB", dtype="bfloat16", packed=True)
A_TPU = replace(HERE, platform="tpu", device_kind="TPU v5 lite", dtype="bfloat16", packed=True)


@pytest.mark.parametrize("length", [512, 32768])
def test_a_cpu_computes_in_blocks(length):
    request = replace(HERE, q_length=length, k_length=length)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(request).NAME == "blockwise"
    assert explain_choice(request)[0] == ("blockwise", "runs")


def test_a_cpu_computes_a_small_batch_at_once():
    request = replace(HERE, batch=1)
    assert choose(request).NAME == "xla"
    verdicts = [("blockwise", "so few scores are computed faster at once"), ("xla", "runs")]
    assert explain_choice(request) == verdicts


def test_a_name_forces_a_body():
    assert choose(HERE, "xla").NAME == "xla"
    assert choose(HERE, "pallas_triton", interpret=True).NAME == "pallas_triton"


def test_what_does_not_exist_or_does_not_run_here_is_refused_by_name():
    with pytest.raises(NotImplementedError, match=r"'cuda'; there are .*blockwise"):
        choose(HERE, "cuda")
    with pytest.raises(NotImplementedError, match="pallas_triton does not run on cpu"):
        choose(HERE, "pallas_triton")


@pytest.mark.parametrize("request_", [A_GPU, A_TPU])
def test_a_body_that_has_not_passed_on_a_device_is_not_chosen_there(request_):
    with pytest.warns(UserWarning, match=f"have not been checked on {request_.device_kind}"):
        assert choose(request_).NAME == "xla"
    verdicts = dict(explain_choice(request_))
    assert verdicts["xla"] == "runs"
    assert verdicts["blockwise"] == "not needed"


def test_a_body_that_has_passed_is_chosen(monkeypatch):
    both = {(body, "TPU v5 lite") for body in ("pallas_tpu_short", "pallas_tpu_long")}
    monkeypatch.setattr(bodies, "PASSED", frozenset(both))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(A_TPU).NAME == "pallas_tpu_short"
        assert choose(replace(A_TPU, q_length=2048, k_length=2048)).NAME == "pallas_tpu_long"


@pytest.mark.filterwarnings("ignore:attention runs in xla, not in pallas_tpu_long")
def test_a_body_that_does_not_take_a_request_gives_its_reason(monkeypatch):
    monkeypatch.setattr(bodies, "PASSED", frozenset({("pallas_tpu_short", "TPU v5 lite")}))
    long = replace(A_TPU, batch=1, q_length=300, k_length=300)
    verdicts = dict(explain_choice(long))
    assert verdicts["pallas_tpu_short"] not in ("runs", "not needed")
    with pytest.raises(NotImplementedError) as refusal:
        choose(long, "pallas_tpu_short")
    assert str(refusal.value) == verdicts["pallas_tpu_short"]
    with pytest.warns(UserWarning, match="attention runs in xla, not in pallas_tpu_short"):
        choose(long)


def test_scores_that_do_not_fit_are_computed_in_blocks():
    request = replace(A_GPU, batch=1, q_length=32768, k_length=32768)
    assert dict(explain_choice(request))["xla"] == "its scores would take 48 GiB"
    with pytest.warns(UserWarning, match="pallas_triton"):
        assert choose(request).NAME == "blockwise"


def test_a_reason_is_given_once():
    request = replace(A_GPU, device_kind="a device of this test")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            choose(request)
    assert len(caught) == 1


def test_other_platforms_get_what_runs_everywhere():
    assert choose(replace(HERE, platform="rocm")).NAME == "xla"
