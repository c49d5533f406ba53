"""A pickle machine that builds plain containers and calls only what an allow-list admits.

Python's own unpickler imports and calls whatever a file names. This one never imports: it looks a
name up in an allow-list (`weight_files.allow_list`), and refuses a file that names anything else.
The operations are those of https://docs.python.org/3/library/pickletools.html, protocols 0 to 5,
without the ones for foreign classes, extension codes and buffers outside the file.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from weight_files.allow_list import AllowedName, AllowList
from weight_files.limits import BadFile, Stream, UnsafeFile

PLAIN_KEYS = (str, int, float, type(None))  # no tuples: hashing a deep one overflows the C stack
MAX_INT = 1 << 63  # of keys and memo indices: longer ones can be chosen to share one hash


class PickleMachine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, stream: Stream, allow_list: AllowList) -> None:
        self.stream, self.allow_list = stream, allow_list
        self.stack: list = []
        self.marked: list[list] = []  # the stacks below each open mark
        self.memo: dict[int, object] = {}

    def run(self) -> Any:
        """Reads one pickle, up to its last byte, and returns its object."""
        file: Any = self.stream  # of a file, genops asks for no more than a Stream has
        for operation, argument, _ in pickletools.genops(file):
            self.allow_list.budget.count_step()
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

    def put(self, index: int | None) -> None:
        index = len(self.memo) if index is None else int(index)
        if not 0 <= index < MAX_INT:
            raise BadFile("is damaged: a pickle's memo index is too large")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[int(index)])

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise BadFile("is damaged: a pickle takes more than it has")
        self.stack[-count:] = [tuple(self.stack[-count:])]

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

    def make_dict(self, _: object) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self.update(items)

    def find_global(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadFile("is damaged: a class name is not a text")
        self.stack.append(self.allow_list.find(module, name))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, AllowedName):
            raise UnsafeFile(f"{type(function).__name__} is called")
        if function.call is None or type(arguments) is not tuple:
            raise UnsafeFile(f"{function.name} is called")
        self.stack.append(function.call(*arguments))

    def make_object(self, _: object) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if arguments != ():
            raise BadFile("is damaged: an object is made with arguments")
        self.stack.append(self.allow_list.make_object(kind))

    def set_state(self, _: object) -> None:
        state = self.stack.pop()
        self.allow_list.set_state(self.stack[-1], state)


IGNORED = {"PROTO", "FRAME"}
PUSHED = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
PUSHED |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
PUSHED |= {"BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
OPERATIONS: dict[str, Callable[[PickleMachine, Any], object]] = {
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.make_tuple(1),
    "TUPLE2": lambda m, _: m.make_tuple(2),
    "TUPLE3": lambda m, _: m.make_tuple(3),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "DICT": PickleMachine.make_dict,
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.update([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.pop_mark()),
    "MARK": PickleMachine.mark,
    "POP": PickleMachine.pop,
    "POP_MARK": PickleMachine.pop_mark,
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "MEMOIZE": PickleMachine.put,
    "GLOBAL": PickleMachine.find_global,
    "STACK_GLOBAL": PickleMachine.find_global,
    "REDUCE": PickleMachine.call,
    "NEWOBJ": PickleMachine.make_object,
    "BUILD": PickleMachine.set_state,
    "BINPERSID": lambda m, _: m.push(m.allow_list.find_storage(m.stack.pop())),
}
OPERATIONS |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleMachine.put)
OPERATIONS |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleMachine.get)
