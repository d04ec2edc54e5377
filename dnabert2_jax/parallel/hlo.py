"""What a compiled program sends and reads: XLA's text of an optimised module in, counts and bytes out.

Loops are multiplied by their number of turns, which XLA's own cost analysis does not do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(?:calls|body|branch_computations|called_computations)=\{?((?:%[\w.\-]+(?:, )?)+)")
# For all but calls it names what is done to pairs of numbers.
_APPLIED = re.compile(r"\bto_apply=(%[\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
)
_CONTROL = ("while", "conditional", "call")
# These move nothing, or what they call or waited for has been counted.
_FREE = {
    "parameter", "constant", "bitcast", "tuple", "get-tuple-element", *_CONTROL,
    "after-all", "partition-id", "replica-id", "opt-barrier", "async-start", "async-done", "async-update",
}  # fmt: skip
_BITS = {"pred": 8, "bf16": 16, "token": 0}


@dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      group: how many devices take part with one another.
      bytes: of the whole array on one device: what is reduced, gathered to, scattered or passed on.
      times: how often it is done in a run of the program.
    """

    kind: str
    group: int
    bytes: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends in all, by the algorithms that send the least."""
        share = (self.group - 1) / self.group
        least = {"all-reduce": 2 * share, "collective-permute": 1.0}
        return self.times * self.bytes * least.get(self.kind, share)


class Traffic(NamedTuple):
    """What a program moves, on one device.

    Attributes:
      collectives: in the order of the program.
      main_memory: bytes that instructions read from and write to main memory, every array in full.
      has_loops: whether some of it is repeated.
    """

    collectives: list[Collective]
    main_memory: int
    has_loops: bool


class _Instruction(NamedTuple):
    name: str
    shape: str
    operation: str
    operands: list[str]
    text: str


def read_traffic(module: str) -> Traffic:
    """Reads the text of an optimised module, as `compiled.as_text()` gives it."""
    computations, entry = _parse(module)
    collectives: list[Collective] = []
    moved, has_loops = 0, False
    for name, instruction, times, is_fused in _walk(computations, entry):
        shapes = computations[name]
        kind = instruction.operation.removesuffix("-start")
        if kind in _COLLECTIVES:
            sizes = [_size(shapes[operand].shape) for operand in instruction.operands if operand in shapes]
            collective = _collective(kind, name, instruction, sum(sizes), times)
            if collective.group > 1:
                collectives.append(collective)
        if instruction.operation == "while":
            has_loops = True
        if (
            not is_fused
            and instruction.operation not in _FREE
            and not instruction.operation.endswith("-done")
        ):
            arrays = [instruction.shape, *(shapes[o].shape for o in set(instruction.operands) if o in shapes)]
            moved += times * sum(_size(shape, main_memory_only=True) for shape in arrays)
    return Traffic(collectives, moved, has_loops)


def _parse(module: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """Instructions by name, by computation; and the name of the entry."""
    computations: dict[str, dict[str, _Instruction]] = {}
    current: dict[str, _Instruction] = {}
    entry = ""
    for line in module.splitlines():
        if found := _COMPUTATION.match(line):
            current = computations.setdefault(found[2], {})
            entry = found[2] if found[1] else entry
        elif found := _INSTRUCTION.match(line):
            name, shape, operation, rest = found.groups()
            operands = re.findall(r"%([\w.\-]+)", rest.split(")", 1)[0])
            current[name] = _Instruction(name, shape, operation, operands, rest)
    return computations, entry


def _walk(
    computations: dict[str, dict[str, _Instruction]], name: str, times: int = 1, is_fused: bool = False
) -> Iterator[tuple[str, _Instruction, int, bool]]:
    """Every instruction with its computation, how often it is done, and whether it is part of a fusion."""
    for instruction in computations[name].values():
        yield name, instruction, times, is_fused
        turns = _TURNS.search(instruction.text) if instruction.operation == "while" else None
        times_inside = times * (int(turns[1]) if turns else 1)
        fused = is_fused or instruction.operation not in _CONTROL
        called = _APPLIED if instruction.operation == "call" else _CALLED
        for names in called.findall(instruction.text):
            for inner in re.findall(r"%([\w.\-]+)", names):
                yield from _walk(computations, inner, times_inside, fused)


def _collective(
    kind: str, computation: str, instruction: _Instruction, operand_bytes: int, times: int
) -> Collective:
    group = _group_size(instruction.text) if kind != "collective-permute" else 2
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
        # TPUs take the two for one.
        kind = "reduce-scatter"
    if kind == "all-gather":
        operand_bytes *= group
    return Collective(kind.removeprefix("ragged-"), group, operand_bytes, times)


def _group_size(text: str) -> int:
    """Devices in a group, from any of the three ways in which XLA writes groups."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        # 'axis':(1)2 is a part of an axis, of size 2.
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
        return prod(int(part or sizes[axis]) for axis, part in axes)
    raise LookupError(f"no replica groups in {text[:200]}")


def _size(shape: str, *, main_memory_only: bool = False) -> int:
    """Bytes of an array or of a tuple's arrays; the layout of those in other memory spaces has S(n)."""
    total = 0
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if main_memory_only and re.search(r"S\([1-9]", layout):
            continue
        digits = re.search(r"\d+", kind)
        bits = _BITS.get(kind) if kind in _BITS else int(digits[0]) if digits else 0
        total += prod(int(size) for size in dimensions.split(",") if size) * int(bits or 0) // 8
    return total
