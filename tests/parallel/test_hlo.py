"""What a program sends, read off its text: against a module written by hand and a program of known sums."""

import json

import pytest

from dnabert2_jax.parallel.hlo import Collective, read_traffic

MODULE = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter (input: bf16[8,4]) -> bf16[2,4] {
  %input = bf16[8,4]{1,0} parameter(0)
  %whole = bf16[8,4]{1,0} all-reduce(%input), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = bf16[2,4]{1,0} dynamic-slice(%whole, %zero, %zero), dynamic_slice_sizes={2,4}
}

%body (state: (s32[], f32[16])) -> (s32[], f32[16]) {
  %state = (s32[], f32[16]{0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %row = f32[16]{0} get-tuple-element(%state), index=1
  %next = f32[16]{0} collective-permute(%row), source_target_pairs={{0,1},{1,0}}
  ROOT %again = (s32[], f32[16]{0}) tuple(%turn, %next)
}

%condition (state.1: (s32[], f32[16])) -> pred[] {
  %state.1 = (s32[], f32[16]{0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: f32[4,2], y: bf16[8,4], z: (s32[], f32[16])) -> f32[4,2] {
  %x = f32[4,2]{1,0:T(8,128)} parameter(0)
  %y = bf16[8,4]{1,0} parameter(1)
  %z = (s32[], f32[16]{0}) parameter(2)
  %start = (f32[4,2]{1,0}, f32[16,2]{1,0}) all-gather-start(%x), replica_groups=[2,4]<=[8], dimensions={0}
  %gathered = f32[16,2]{1,0} all-gather-done(%start)
  %loop = (s32[], f32[16]{0}) while(%z), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %scattered = bf16[2,4]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter
  %alone = f32[4,2]{1,0} all-reduce(%x), replica_groups=mesh['data'=8,'tensor'=1] {'tensor'}, to_apply=%add
  %near = f32[4,2]{1,0:T(8,128)S(1)} copy(%alone)
  ROOT %out = f32[4,2]{1,0} all-reduce(%near), replica_groups=mesh['data'=2,'tensor'=4] {'data':(1)2,'tensor'}, to_apply=%add
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def traffic():
    return read_traffic(MODULE)


def test_collectives_with_groups_sizes_and_turns(traffic):
    assert traffic.collectives == [
        Collective("all-gather", group=4, bytes=16 * 2 * 4, times=1),
        Collective("collective-permute", group=2, bytes=16 * 4, times=3),
        Collective("reduce-scatter", group=4, bytes=8 * 4 * 2, times=1),
        Collective("all-reduce", group=8, bytes=4 * 2 * 4, times=1),
    ]
    assert traffic.has_loops


def test_a_device_sends_what_the_best_algorithms_need(traffic):
    gather, permute, scatter, reduction = (collective.sent for collective in traffic.collectives)
    assert gather == 3 * 32
    assert permute == 3 * 64
    assert scatter == 3 / 4 * 64
    assert reduction == 2 * 7 / 8 * 32


def test_main_memory_leaves_out_what_stays_on_the_chip(traffic):
    gather = 32 + (32 + 128)
    loop = 3 * (64 + 64)
    fusion = 64 + 16
    alone = 32 + 32
    copy = 32  # its result stays on the chip
    out = 32  # its operand is there
    assert traffic.main_memory == gather + loop + fusion + alone + copy + out


COUNTED = """
import json
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from dnabert2_jax.parallel.hlo import read_traffic

mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
def lay(*spec): return NamedSharding(mesh, P(*spec))

def layers(x, w, v):
    def layer(x, _):
        x = jax.lax.with_sharding_constraint(x @ w, lay("data", "tensor"))
        return jax.lax.with_sharding_constraint(x @ v, lay("data", None)), None
    return jax.lax.scan(layer, x, length=5)[0]

shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 64), (64, 128), (128, 64))]
layouts = (lay("data", None), lay(None, "tensor"), lay("tensor", None))
compiled = jax.jit(layers, in_shardings=layouts, out_shardings=lay("data", None)).lower(*shapes).compile()
print(json.dumps([vars(c) for c in read_traffic(compiled.as_text()).collectives]))
"""


@pytest.mark.multiprocess
def test_a_row_parallel_layer_ends_in_one_sum_per_turn(start_python):
    process = start_python(COUNTED, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (collective,) = json.loads(output)
    # Each of five layers sums the half of 32 rows of 64 numbers that a device has over the four of `tensor`.
    assert collective == {"kind": "all-reduce", "group": 4, "bytes": 16 * 64 * 4, "times": 5}
