"""What PyTorch's lite interpreter takes as it is: whether all that the bytecode of a file uses is there.

The interpreter takes operators, constants and attributes by their numbers, and values off a stack, without looking
whether it has them. A file that is wrong there may use any memory of the process: one good run says nothing about the
next. So the bytecode is followed on every path with no values but the model's objects, as virtual machines verify
theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mobileprune.runtimes.lite_pickle import CorruptError, Instance

FIELDS = ("instructions", "operators", "constants", "types", "register_size")
POPS = {
    **dict.fromkeys(("LOAD", "MOVE", "DROPR", "JMP"), 0),
    **dict.fromkeys(("STORE", "DROP", "GET_ATTR", "JF", "LIST_UNPACK", "RET"), 1),
    **dict.fromkeys(("SET_ATTR", "WARN", "RAISE_EXCEPTION"), 2),
}
"""Values that an instruction takes off the stack, where that is always the same."""
GIVES_ONE = {
    **dict.fromkeys(("LOADC", "UN_INITIALIZED"), 0),
    **dict.fromkeys(
        ("ISINSTANCE", "UNCHECKED_CAST", "DEVICE", "DTYPE", "DIM", "IS_CUDA", "NUM_TO_TENSOR", "__NOT__"), 1
    ),
    **dict.fromkeys(("__IS__", "__ISNOT__", "DICT_INDEX"), 2),
}
"""The same of those that put one value on it, and do no more."""
CONSTRUCT = ("TUPLE_CONSTRUCT", "LIST_CONSTRUCT", "DICT_CONSTRUCT", "FORMAT")
REGISTERS = ("LOAD", "MOVE", "DROPR", "STORE", "STOREN")
TYPES = ("LIST_CONSTRUCT", "DICT_CONSTRUCT", "ISINSTANCE")
Value = Instance | None
"""An object of the model, or anything else."""


@dataclass(frozen=True)
class State:
    """Before an instruction: the stack, and the registers that hold objects."""

    stack: tuple[Value, ...]
    registers: dict[int, Instance]

    def joined(self, other: State) -> State:
        """What is so on both paths."""
        if len(self.stack) != len(other.stack):
            raise CorruptError(f"{len(self.stack)} or {len(other.stack)} values on the stack")
        stack = tuple(a if a is b else None for a, b in zip(self.stack, other.stack, strict=True))
        return State(stack, {n: a for n, a in self.registers.items() if other.registers.get(n) is a})

    def same(self, other: State | None) -> bool:
        if other is None or self.registers.keys() != other.registers.keys():
            return False
        return all(a is b for a, b in zip(self.stack, other.stack, strict=True))


@dataclass(frozen=True)
class Code:
    """A method: (name, X, N) of each instruction, (pops, pushes) of each operator, and how many there are of others."""

    instructions: list[tuple[str, int, int]]
    operators: list[tuple[int | None, int]]
    constants: int
    types: int
    registers: int


def forward(bytecode: Any) -> Code:
    """The only method in the value of ``bytecode.pkl``: (version, (name, ((field, value), ...), schema))."""
    _, *methods = bytecode
    names = [str(method[0]) for method in methods]
    if len(names) != 1 or not names[0].endswith(".forward"):
        raise CorruptError(f"its methods are {names[:8]}, must be one, forward")
    fields = methods[0][1]
    if tuple(name for name, _ in fields) != FIELDS:  # the interpreter goes by their order
        raise CorruptError(f"fields other than {', '.join(FIELDS)}")
    instructions, operators, constants, types, registers = (held for _, held in fields)
    for name, x, n in instructions:
        if not (-(2**31) <= x < 2**31 and 0 <= n < 2**16):  # as wide as the interpreter's
            raise CorruptError(f"instruction {name} {x} {n}")
    effects = [_effect(*operator) for operator in operators]
    return Code(list(instructions), effects, len(constants), len(types), int(registers))


def _effect(name: str, overload: str, given: int | None = None) -> tuple[int | None, int]:
    """(pops, pushes) of an operator; pops is None where the instruction says how many.

    ``given``: how many arguments are on the stack; the interpreter puts the defaults of others before the outputs.
    """
    import torch

    schemas = torch._C._jit_get_schemas_for_operator(name)
    schema = next((s for s in schemas if s.overload_name == overload), None)
    takes, _, gives = str(schema).rpartition("->")
    if schema is None or "..." in gives:
        raise CorruptError(f"operator {name}.{overload}: unknown, or with any number of results")
    if "..." in takes:
        return None, len(schema.returns)
    inputs = [argument for argument in schema.arguments if not argument.is_out]
    outputs = len(schema.arguments) - len(inputs)
    first = len(inputs) if given is None else given - outputs
    if not 0 <= first <= len(inputs) or not all(argument.has_default_value() for argument in inputs[first:]):
        raise CorruptError(f"operator {name}.{overload} with {given} arguments")
    return first + outputs, len(schema.returns)


def verify(code: Code, model: Instance) -> None:
    """CorruptError where a path from ``forward(model, x)`` uses what is not there, or does not end with a result."""
    reached: dict[int, State] = {}
    waiting = [(0, State((model, None), {}))]
    while waiting:
        at, state = waiting.pop()
        _within(at, len(code.instructions), "jump to an instruction")
        joined = reached[at].joined(state) if at in reached else state
        if not joined.same(reached.get(at)):
            reached[at] = joined
            waiting += ((at + step, after) for step, after in _after(code, code.instructions[at], joined))


def _after(code: Code, instruction: tuple[str, int, int], state: State) -> Iterator[tuple[int, State]]:
    """(how many instructions ahead, state there) for each way on."""
    name, x, n = instruction
    pops = _pops(code, name, x, n)
    if not 0 <= pops <= len(state.stack):
        raise CorruptError(f"{name} takes {pops} values, the stack has {len(state.stack)}")
    rest, taken = state.stack[: len(state.stack) - pops], state.stack[len(state.stack) - pops :]
    registers = state.registers
    pushes: tuple[Value, ...] = ()
    steps: tuple[int, ...] = (1,)
    match name:
        case "RET" | "RAISE_EXCEPTION":
            steps = ()
        case "LOAD":
            pushes = (registers.get(x),)
        case "MOVE" | "DROPR":
            pushes = (registers.get(x),) if name == "MOVE" else ()
            registers = {i: held for i, held in registers.items() if i != x}
        case "STORE" | "STOREN":
            held = {i: held for i, held in registers.items() if not x <= i < x + pops}
            registers = held | {x + i: put for i, put in enumerate(taken) if put is not None}
        case "GET_ATTR":
            pushes = (_attribute(taken[0], x),)
        case "SET_ATTR":
            if _attribute(taken[0], x) is not None or taken[1] is not None:
                raise CorruptError("an object of the model is replaced")
        case "JMP":
            steps = (x,)
        case "JF":
            steps = (1, x)
        case "LOOP":  # of the round, the number of rounds, the condition, and what is carried: the end keeps the last
            yield x, State(rest + taken[3:], registers)
            pushes = (None, None, None, *taken[3:])
        case "OP" | "OPN":
            pushes = (None,) * code.operators[x][1]
        case "LIST_UNPACK":
            pushes = (None,) * _within(x, 2**16, "items of a list")
        case _ if name in GIVES_ONE or name in CONSTRUCT:
            pushes = (None,)
    for step in steps:
        yield step, State(rest + pushes, registers)


def _pops(code: Code, name: str, x: int, n: int) -> int:
    """How many values the instruction takes off the stack; CorruptError where it names what is not there."""
    if name in REGISTERS:  # they count from 1
        _within(x - 1, code.registers, "register")
        _within(x + (n if name == "STOREN" else 1) - 1, code.registers + 1, "register")
    if name == "LOADC":
        _within(x, code.constants, "constant")
    if name in TYPES:
        _within(x, code.types, "type")
        _within(x + (n if name == "ISINSTANCE" else 1), code.types + 1, "type")
    match name:
        case "OP" | "OPN":
            pops = code.operators[_within(x, len(code.operators), "operator")][0]
            if (pops is None) != (name == "OPN"):
                raise CorruptError(f"{name} {x}: its operator takes {'any number' if pops is None else pops} of values")
            return n if pops is None else pops
        case "STOREN" | "LIST_CONSTRUCT" | "DICT_CONSTRUCT":
            return n
        case "TUPLE_CONSTRUCT" | "FORMAT":
            return x
        case "LOOP":
            return 1 + _within(n, 2**16, "values of a loop", least=2)
    if name not in POPS | GIVES_ONE:
        raise CorruptError(f"instruction {name}, which no image classifier needs")
    return (POPS | GIVES_ONE)[name]


def _attribute(item: Value, x: int) -> Value:
    if item is None:
        raise CorruptError(f"attribute {x} of what is no object of the model")
    found = item.attributes[_within(x, len(item.attributes), "attribute")]
    return found if isinstance(found, Instance) else None


def _within(number: int, count: int, what: str, least: int = 0) -> int:
    if not least <= number < count:
        raise CorruptError(f"{what} {number} of {count}")
    return number
