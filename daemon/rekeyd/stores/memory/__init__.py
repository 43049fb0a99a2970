"""A store in memory: a shelf, and both planes of the port over it."""

from rekeyd.stores.memory.control import MemoryControl
from rekeyd.stores.memory.shelf import Shelf
from rekeyd.stores.memory.store import MemoryStore

__all__ = ["MemoryControl", "MemoryStore", "Shelf"]
