"""The bodies of the attention op: what a body is, which there are, and which one a request gets.

In: a request, which is the shapes, the type and the device. Out: the body that runs, and why others do not.
"""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import jax


@dataclass(frozen=True)
class Request:
    """What is known of a call before it is traced; bodies accept or refuse on these grounds alone.

    Attributes:
      platform: "cpu", "gpu" (CUDA) or "tpu".
      device_kind: the device's name as JAX tells it, such as "NVIDIA H200" or "TPU v5 lite".
      dtype: of q, k and v: "float32", "bfloat16", "float16" or "float64".
      batch, q_length, k_length, heads, head_width: B, Sq, Sk, H and D of one device's share.
      has_segments: False where every token may attend to every other.
      packed: the call comes with the packed projection [B, S, 3·H·D].
      whole_rows: queries and keys are the same tokens, with offsets of 0: Sq = Sk and one set of segments.
    """

    platform: str
    device_kind: str
    dtype: str
    batch: int
    q_length: int
    k_length: int
    heads: int
    head_width: int
    has_segments: bool = True
    packed: bool = False
    whole_rows: bool = True


class Body(Protocol):
    """A module of this package that computes the op.

    Score_ij = q_i·k_j / √D − slope·|i + q_offset − j − k_offset|, summed in at least float32; the weights
    are rounded to the type of v for their product with it. Query i sees key j where their segments are
    equal and not 0. A query that sees no key has the result 0, the log-sum-exp −inf and no gradient.

    Arguments of both directions: q [B, Sq, H, D]; k, v [B, Sk, H, D]; slopes float32 [H], 0 or more, perhaps
    traced; segments int32 [B, Sq] and [B, Sk], always given; offsets int32 scalars, perhaps traced. `skip`:
    blocks that cannot matter may be left out (`skipping.py`). `interpret`: Pallas bodies run on any platform.

    A body may also have `forward_packed` and `backward_packed`, as below with `qkv` [B, S, 3·H·D] for q, k
    and v, one `segments`, no offsets, `out` and `dout` [B, S, H·D], and `dqkv` as the result of the latter.
    """

    NAME: str

    def check(self, request: Request) -> None:
        """Raises NotImplementedError, saying why in words, on what the body does not take."""

    def forward(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        slopes: jax.Array,
        q_segments: jax.Array,
        k_segments: jax.Array,
        q_offset: jax.Array,
        k_offset: jax.Array,
        *,
        skip: bool,
        interpret: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the result [B, Sq, H, D] in the type of v, and the log-sum-exp (natural, of scaled and
        biased scores) [B, H, Sq] in float32, or float64 for float64."""
        ...

    def backward(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        slopes: jax.Array,
        q_segments: jax.Array,
        k_segments: jax.Array,
        q_offset: jax.Array,
        k_offset: jax.Array,
        out: jax.Array,
        lse: jax.Array,
        dout: jax.Array,
        dlse: jax.Array | None,
        *,
        skip: bool,
        interpret: bool,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns dq, dk and dv in the types of q, k and v; dlse is None where nothing used the log-sum-exp.

        P = exp(score − lse);  dS = P ∘ (dout vᵀ − rowsum(dout ∘ out) + dlse);  dq = dS k / √D, and so on.
        """
        ...


# Per platform, most wanted first; the last takes everything that no other does. Other platforms get XLA's.
_ORDER = {
    "cpu": ("blockwise", "xla"),
    "gpu": ("pallas_triton", "xla", "blockwise"),
    "tpu": ("pallas_tpu_short", "pallas_tpu_long", "xla", "blockwise"),
}
_XLA = ("xla", "blockwise")

# The dense body may have so many scores, 4 GiB of them; the backward pass holds two or three such arrays.
_DENSE_SCORES = 1 << 30
# CPUs' caches hold so many, 32 MiB; blocks only cost then.
_CACHED_SCORES = 1 << 23

# (body, device kind) whose numbers were compared with float64 on that hardware. XLA's own need no entry.
# Tests that compile for hardware that is not there add to it for their time.
PASSED: frozenset[tuple[str, str]] = frozenset()


def choose(request: Request, implementation: str | None = None, *, interpret: bool = False) -> Body:
    """The body that computes a request.

    Args:
      request: what is asked for.
      implementation: the name of a body; None takes the most wanted one that can and may be used, and
        warns, once for each reason, where that is XLA's and the platform has others.
      interpret: the body will be emulated, so that the platform does not matter.

    Raises:
      NotImplementedError: there is no body of that name, or it does not take the request; with the reason.
    """
    order = _ORDER.get(request.platform, _XLA)
    if implementation is not None:
        names = dict.fromkeys(name for names in _ORDER.values() for name in names)
        if implementation not in names:
            raise NotImplementedError(
                f"no attention implementation is called {implementation!r}; there are {', '.join(names)}"
            )
        if implementation not in order and not interpret:
            raise NotImplementedError(f"{implementation} does not run on {request.platform}")
        body = load(implementation)
        body.check(request)
        return body
    obstacles = {name: _obstacle(name, request) for name in order}
    chosen = next(name for name, obstacle in obstacles.items() if obstacle is None)
    if chosen in _XLA:
        for name, obstacle in obstacles.items():
            if name not in _XLA:
                # Python shows a warning of one text from one line once.
                warnings.warn(f"attention runs in {chosen}, not in {name}: {obstacle}", stacklevel=1)
    return load(chosen)


def explain_choice(request: Request) -> list[tuple[str, str]]:
    """Each body of the platform in order, and what becomes of it: "runs", or why it is not used."""
    verdicts = []
    chosen = False
    for name in _ORDER.get(request.platform, _XLA):
        reason = _obstacle(name, request) or ("not needed" if chosen else "runs")
        chosen = chosen or reason == "runs"
        verdicts.append((name, reason))
    return verdicts


def load(name: str) -> Body:
    """The module of a body; those in Pallas are imported when they are asked for."""
    return cast(Body, import_module(f"dnabert2_jax.kernels.{name}"))


def _obstacle(name: str, request: Request) -> str | None:
    """Why a body is not used by default."""
    if name not in _XLA and (name, request.device_kind) not in PASSED:
        return f"its numbers have not been checked on {request.device_kind}"
    scores = request.batch * request.heads * request.q_length * request.k_length
    if name == "xla" and scores > _DENSE_SCORES:
        return f"its scores would take {4 * scores / 2**30:.0f} GiB"
    if name == "blockwise" and request.platform == "cpu" and scores < _CACHED_SCORES:
        return "so few scores are computed faster at once"
    try:
        load(name).check(request)
    except NotImplementedError as refusal:
        return str(refusal)
    return None
