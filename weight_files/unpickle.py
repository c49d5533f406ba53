"""A pickle machine that can build plain containers and call what it is given, and nothing else.

Python's own unpickler imports and calls whatever a file names. This one never imports: a name is
looked up in an allow-list (`weight_files.rebuild`), and a file that names anything else is
refused at
that name. The operations are those of https://docs.python.org/3/library/pickletools.html, protocols
0 to 5, less the ones for foreign classes, extension codes and buffers outside the file.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from weight_files.limits import BadFile, Stream, UnsafeFile

PLAIN_KEYS = (str, int, float, type(None))  # no tuples: hashing a deep one overflows the C stack
MAX_INT = 1 << 63  # of keys and memo places: longer ones can be chosen to have all the same hash


@dataclass(frozen=True)
class Allowed:
    """One name of the allow-list: `call` builds its object, or is None for a mere marker."""

    name: str
    call: Callable | None = None


class World(Protocol):
    """What names, calls and references outside the pickle mean; see
    `weight_files.rebuild.Rebuilder`."""

    def step(self) -> None: ...
    def find(self, module: str, name: str) -> Allowed: ...
    def new(self, kind: object) -> object: ...
    def build(self, target: object, state: object) -> None: ...
    def persistent(self, identity: object) -> object: ...


class Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, stream: Stream, world: World) -> None:
        self.stream, self.world = stream, world
        self.stack: list = []
        self.marked: list[list] = []  # the stacks below each open mark
        self.memo: dict[int, object] = {}

    def run(self) -> Any:
        """Reads one pickle, up to its last byte, and returns its object."""
        file: Any = self.stream  # of a file, genops asks for no more than a Stream has
        for operation, argument, _ in pickletools.genops(file):
            self.world.step()
            if operation.name == "STOP":
                return self.stack.pop()
            if operation.name in PUSHED:
                self.stack.append(argument)
            elif operation.name in OPERATIONS:
                OPERATIONS[operation.name](self, argument)
            elif operation.name not in IGNORED:
                detail = str(argument).replace(" ", ".") if operation.name == "INST" else ""
                raise UnsafeFile(f"pickle operation {operation.name} {detail}".rstrip())
        raise BadFile("is cut off inside a pickle")

    def push(self, item: object) -> None:
        self.stack.append(item)

    def mark(self, _: object) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self, _: object = None) -> list:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop(self, _: object) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def duplicate(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int | None) -> None:
        place = len(self.memo) if index is None else int(index)
        if not 0 <= place < MAX_INT:
            raise BadFile("is damaged: a pickle counts its parts beyond all measure")
        self.memo[place] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[int(index)])

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise BadFile("is damaged: a pickle takes more than it has")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def extend(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise BadFile(f"is damaged: it appends to {type(target).__name__}")
        target.extend(items)

    def update(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise BadFile(f"is damaged: it sets items of {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, PLAIN_KEYS):
                raise BadFile(f"has a dictionary key of type {type(key).__name__}")
            if isinstance(key, int) and not -MAX_INT <= key < MAX_INT:
                raise BadFile("has a number of more than 63 bits for a dictionary key")
            target[key] = value

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def dictionary(self, _: object) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self.update(items)

    def global_name(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadFile("is damaged: a class name is no text")
        self.stack.append(self.world.find(module, name))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if (
            not isinstance(function, Allowed)
            or function.call is None
            or type(arguments) is not tuple
        ):
            name = function.name if isinstance(function, Allowed) else type(function).__name__
            raise UnsafeFile(f"{name} is called")
        self.stack.append(function.call(*arguments))

    def new(self, _: object) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if arguments != ():
            raise BadFile("is damaged: an object is made with arguments")
        self.stack.append(self.world.new(kind))

    def build(self, _: object) -> None:
        state = self.stack.pop()
        self.world.build(self.stack[-1], state)

    def persistent(self, _: object) -> None:
        self.stack.append(self.world.persistent(self.stack.pop()))


IGNORED = {"PROTO", "FRAME"}
PUSHED = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
PUSHED |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
PUSHED |= {"BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
OPERATIONS: dict[str, Callable[[Machine, Any], object]] = {
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "DICT": Machine.dictionary,
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": Machine.set_item,
    "SETITEMS": lambda m, _: m.update(m.pop_mark()),
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": Machine.pop_mark,
    "DUP": Machine.duplicate,
    "MEMOIZE": Machine.put,
    "GLOBAL": Machine.global_name,
    "STACK_GLOBAL": Machine.global_name,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.new,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent,
}
OPERATIONS |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put)
OPERATIONS |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get)
