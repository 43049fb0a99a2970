"""The Merkle tree against the recursive definition of RFC 9162, and what it must not be talked into."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.merkle import EMPTY_ROOT, MerkleTree, leaf_hash, node_hash, proves, root_of

LEAVES = st.lists(st.binary(max_size=6), max_size=70)

# The tree of the tests of google/certificate-transparency: eight leaves, and the roots over the first n of them.
KNOWN_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def split(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def path_of(leaves: Sequence[bytes], index: int) -> Sequence[bytes]:
    tree = MerkleTree()
    for number, leaf in enumerate(leaves):
        tree.append(leaf, watch=number == index)
    assert tree.watched == index
    return tree.path()


@pytest.mark.parametrize("count", range(1, 9))
def test_the_roots_are_those_that_others_compute(count: int) -> None:
    assert root_of(KNOWN_LEAVES[:count]).hex() == KNOWN_ROOTS[count - 1]


@given(LEAVES)
def test_the_root_is_the_definitions(leaves: list[bytes]) -> None:
    assert root_of(leaves) == naive_root(leaves)


@given(LEAVES.filter(bool), st.data())
def test_the_path_is_the_definitions_and_proves_its_leaf(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = path_of(leaves, index)

    assert list(path) == naive_path(index, leaves)
    assert proves(leaves[index], index, len(leaves), path, root_of(leaves))


@given(LEAVES.filter(bool), st.binary(max_size=6), st.data())
def test_a_path_proves_no_other_leaf(leaves: list[bytes], other: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = path_of(leaves, index)

    assert proves(other, index, len(leaves), path, root_of(leaves)) == (other == leaves[index])


@given(LEAVES.filter(lambda leaves: len(leaves) > 1), st.data())
def test_a_path_with_any_bit_changed_proves_nothing(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = list(path_of(leaves, index))
    at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
    path[at] = (int.from_bytes(path[at]) ^ (1 << bit)).to_bytes(32)

    assert not proves(leaves[index], index, len(leaves), path, root_of(leaves))


@given(LEAVES.filter(bool), st.integers(-1, 71), st.data())
def test_a_path_proves_a_leaf_in_its_place_alone(
    leaves: list[bytes], place: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    distinct = [bytes([number]) for number in range(len(leaves))]
    path = path_of(distinct, index)

    assert proves(distinct[index], place, len(distinct), path, root_of(distinct)) == (place == index)


@pytest.mark.parametrize("size", range(2, 20))
def test_a_path_that_is_too_short_or_too_long_proves_nothing(size: int) -> None:
    leaves = [bytes([number]) for number in range(size)]
    for index in range(size):
        path = list(path_of(leaves, index))
        for wrong in (path[:-1], [*path, path[-1]], path * 40):
            assert not proves(leaves[index], index, size, wrong, root_of(leaves))


def test_a_node_passes_for_no_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    root = root_of([b"a", b"b"])

    # Without a byte of its own for leaves, the one leaf `left + right` would have the same root as the two.
    assert root == node_hash(left, right)
    assert root_of([left + right]) != root
    assert not proves(left + right, 0, 1, [], root)
    # Nor may a shorter tree of inner nodes be proven.
    four = [b"a", b"b", b"c", b"d"]
    inner = node_hash(leaf_hash(b"c"), leaf_hash(b"d"))
    assert not proves(left + right, 0, 2, [inner], root_of(four))


def test_an_odd_leaf_is_not_doubled() -> None:
    assert root_of([b"a", b"b", b"c"]) != root_of([b"a", b"b", b"c", b"c"])


def test_there_is_a_root_over_nothing_and_no_leaf_in_it() -> None:
    assert MerkleTree().root() == EMPTY_ROOT == naive_root([])
    assert not proves(b"", 0, 0, [], EMPTY_ROOT)
    with pytest.raises(ValueError, match="none of the 0 leaves"):
        MerkleTree().path()


def test_the_root_can_be_asked_for_again_and_again() -> None:
    tree, leaves = MerkleTree(), [bytes([number]) for number in range(33)]
    for count, leaf in enumerate(leaves, 1):
        tree.append(leaf, watch=count == 2)
        assert tree.root() == naive_root(leaves[:count])
        if count > 1:
            assert list(tree.path()) == naive_path(1, leaves[:count])


def test_memory_grows_with_the_logarithm_of_the_leaves() -> None:
    tree = MerkleTree()
    for number in range(100_000):
        tree.append(number.to_bytes(4), watch=number == 3)
        assert len(tree._whole) <= 17
    assert len(tree._path) <= 17
    assert tree.size == 100_000
