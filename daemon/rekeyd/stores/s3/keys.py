"""Keys that a store which keeps objects as files would rewrite. Pure."""

from __future__ import annotations

_OWN_FOLDERS = (".uploads", ".versions")
"""Where SeaweedFS keeps what it doesn't list."""


def why_rewritten(key: str, size_bytes: int | None) -> str | None:
    r"""Why SeaweedFS would keep an object of this size under another key, or lose its bytes. None: it won't.

    Measured on 4.48: `a//b` becomes `a/b`, `/a` and `a\b` likewise, and a prefix listing of the rewritten key
    shows the one that was asked for; `a/` becomes a folder without bytes; its own folders aren't listed.
    `size_bytes` is None where it isn't known yet.
    """
    *folders, name = key.split("/")
    if not all(folders):
        return "it has an empty folder name"
    if "\\" in key:
        return "it has a backslash"
    if any(folder.endswith(_OWN_FOLDERS) for folder in folders):
        return "a folder of its name is the store's own"
    if not name and size_bytes != 0:
        return "it names a folder, yet has content"
    return None
