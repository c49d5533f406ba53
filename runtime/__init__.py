"""Ground floor: prepares Jittor before its first import. Import this before `jittor`, always."""

from runtime.prepare import prepare

PREPARED = prepare()
