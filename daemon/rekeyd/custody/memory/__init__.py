"""A key service in memory, for tests."""

from rekeyd.custody.memory.custody import MemoryCustody
from rekeyd.custody.memory.keys import StoredKey

__all__ = ["MemoryCustody", "StoredKey"]
