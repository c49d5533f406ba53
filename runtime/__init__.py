"""Prepares Jittor before its first import: `import runtime` always comes before `import jittor`."""

from runtime.prepare import prepare

PREPARED = prepare()
