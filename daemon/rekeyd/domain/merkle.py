"""A Merkle tree over a list of leaves: one hash for all of them, and a short proof for each.

The tree, its hashes and its proofs are those of RFC 9162, section 2.1 (RFC 6962 before it), with SHA-256: a leaf is
hashed behind the byte 0x00, a node behind 0x01, so that no node can pass for a leaf. A tree of n leaves is split at
the largest power of two below n; an odd leaf is never doubled, so no two lists have one root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root over no leaves."""

PATH_HASHES_MAX = 64
"""The longest path of a proof that is looked at: that of a tree with 2**64 leaves."""

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with these contents."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above these two."""
    return hashlib.sha256(_NODE + left + right).digest()


class MerkleTree:
    """A tree that grows leaf by leaf at its end and remembers one hash for each bit of its size.

    Of one leaf, the one that is appended to be watched, it gathers the path that proves it on the way.
    """

    def __init__(self) -> None:
        self._watched: int | None = None
        self._path: list[bytes] = []
        self._size = 0
        self._whole: list[tuple[int, bytes]] = []
        """Whole subtrees from left to right, each by the number of its leaves and its hash, ever smaller ones."""

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return self._size

    @property
    def watched(self) -> int | None:
        """The number of the watched leaf, from 0 on."""
        return self._watched

    def append(self, data: bytes, *, watch: bool = False) -> None:
        """Add a leaf with these contents. With `watch` it is the one whose path is gathered from now on."""
        if watch:
            self._watched, self._path = self._size, []
        count, added = 1, leaf_hash(data)
        self._size += 1
        while self._whole and self._whole[-1][0] == count:
            _, left = self._whole.pop()
            self._note(self._path, self._size - 2 * count, count, left, added)
            count, added = 2 * count, node_hash(left, added)
        self._whole.append((count, added))

    def root(self) -> bytes:
        """The hash of all leaves so far."""
        return self._fold([])

    def path(self) -> Sequence[bytes]:
        """The path that proves the watched leaf in the tree as it is now, from the leaf's sibling up.

        Raises ValueError where none is.
        """
        if self._watched is None:
            raise ValueError(f"none of the {self._size} leaves is watched")
        path = list(self._path)
        self._fold(path)
        return path

    def _fold(self, path: list[bytes]) -> bytes:
        if not self._whole:
            return EMPTY_ROOT
        *rest, (count, folded) = self._whole
        first = self._size - count
        for left_count, left in reversed(rest):
            first -= left_count
            self._note(path, first, left_count, left, folded)
            folded = node_hash(left, folded)
        return folded

    def _note(self, path: list[bytes], first: int, left_count: int, left: bytes, right: bytes) -> None:
        """Keep the sibling where the watched leaf is below the node of these two, whose first leaf is `first`."""
        if self._watched is None or not first <= self._watched < self._size:
            return
        path.append(right if self._watched < first + left_count else left)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves with these contents."""
    tree = MerkleTree()
    for data in leaves:
        tree.append(data)
    return tree.root()


def proves(data: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves that the leaf `index` (from 0 on) of the tree with `size` leaves and this root is `data`.

    RFC 9162, section 2.1.3.2, step by step.
    """
    if not 0 <= index < size or len(path) > PATH_HASHES_MAX:
        return False
    if any(len(sibling) != HASH_BYTES for sibling in path):
        return False
    here, last, hashed = index, size - 1, leaf_hash(data)
    for sibling in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            hashed = node_hash(sibling, hashed)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and hashed == root
