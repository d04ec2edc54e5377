"""PyTorch's attentions with the ALiBi bias on one GPU; attention_gpu.py calls it and describes the method.

    python benchmarks/attention_gpu_torch.py [--smoke]

FlexAttention with a score_mod, scaled_dot_product_attention without a bias and with the bias as a tensor,
and FlashAttention 2 with slopes where flash_attn is installed. It needs PyTorch alone; the last line of its
output is the result as JSON.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = ((512, 128), (4096, 128), (64, 1024), (16, 2048), (4, 8192), (1, 32768))
HEADS, WIDTH = 12, 64
SMOKE_SHAPES = ((2, 16), (1, 160))
SMOKE_HEADS, SMOKE_WIDTH = 2, 32


def main() -> None:
    """Measures every contender at every shape and prints the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    heads, width = (SMOKE_HEADS, SMOKE_WIDTH) if arguments.smoke else (HEADS, WIDTH)
    result = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    for batch, length in SMOKE_SHAPES if arguments.smoke else SHAPES:
        torch.manual_seed(0)
        q, k, v = torch.randn(3, batch, heads, length, width, device=device, dtype=torch.bfloat16)
        slopes = alibi_slopes(heads).to(device)
        result[f"B{batch} S{length}"] = {
            name: attempt(make, (q, k, v), slopes, arguments) for name, make in CONTENDERS.items()
        }
    print(json.dumps(result))


def alibi_slopes(heads: int) -> torch.Tensor:
    """Slopes as in the released model; every second one of twice the heads where they are no power of two."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    slopes += [2 ** (-4 * i / power) for i in range(1, 2 * (heads - power), 2)]
    return torch.tensor(slopes)


def flex(slopes, smoke):
    """FlexAttention, which compiles the bias into its kernel."""
    from torch.nn.attention.flex_attention import flex_attention

    def score_mod(score, _, head, query, key):
        return score - slopes[head] * (query - key).abs()

    function = flex_attention if smoke else torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: function(q, k, v, score_mod=score_mod)


def plain(*_):
    """scaled_dot_product_attention without a bias: another op, and the fastest that PyTorch has."""
    return F.scaled_dot_product_attention


def biased(slopes, _):
    """scaled_dot_product_attention with the bias as a tensor [1, H, S, S], made in the call."""

    def function(q, k, v):
        position = torch.arange(q.shape[2], device=q.device)
        distance = (position[:, None] - position[None, :]).abs()
        bias = (-slopes[:, None, None] * distance).to(q.dtype)[None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    return function


def flash_attention_2(slopes, _):
    """Dao's kernel, which takes the slopes; it wants [B, S, H, D]."""
    from flash_attn import flash_attn_func

    def function(q, k, v):
        q, k, v = (array.transpose(1, 2) for array in (q, k, v))
        return flash_attn_func(q, k, v, alibi_slopes=slopes.float()).transpose(1, 2)

    return function


CONTENDERS = {
    "FlexAttention, ALiBi": flex,
    "SDPA, no bias": plain,
    "SDPA, bias": biased,
    "FlashAttention 2, ALiBi": flash_attention_2,
}


def attempt(make, inputs, slopes, arguments):
    """Times of a contender, or why there are none."""
    try:
        return measure(make(slopes, arguments.smoke), inputs, arguments)
    except Exception as problem:
        return f"missing: {type(problem).__name__}: {(str(problem).splitlines() or [''])[0][:200]}"


def measure(function, inputs, arguments) -> dict[str, float]:
    """Microseconds of a forward pass, and of one with its backward pass."""
    dout = torch.ones_like(inputs[0])

    def forward():
        with torch.no_grad():
            function(*inputs)

    def both():
        leaves = [array.detach().requires_grad_() for array in inputs]
        torch.autograd.grad(function(*leaves), leaves, dout)

    return {
        "forward_us": microseconds(forward, arguments),
        "both_us": microseconds(both, arguments),
    }


def microseconds(call, arguments) -> float:
    """Median over rounds of calls that keep the device busy for a tenth of a second."""
    for _ in range(1 if arguments.smoke else 3):
        call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    calls = 1 if arguments.smoke else max(3, round(0.1 / (time.perf_counter() - start)))
    taken = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        taken.append((time.perf_counter() - start) / calls)
    return round(statistics.median(taken) * 1e6, 1)


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
