"""How one S3 store is reached: settings of the adapter, and where a bucket's requests go."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from rekeyd.stores.s3.signing import encode_path


@dataclass(frozen=True, slots=True)
class S3Config:
    """An S3 store, and the bounds of all that is asked of it. Raises ValueError for what can't be right."""

    name: str
    """The store's name in the settings."""
    region: str
    """Where a bucket is looked for first; each bucket's own region is found out."""
    endpoint_url: str = ""
    """Of an S3-compatible store: addressed by path. Empty for AWS itself."""
    account_id: str = ""
    """The account that must own every bucket; sent with each request where it is set."""
    batch_delete_conditions: bool = True
    """Whether DeleteObjects heeds the ETag of each object. Where false, objects are deleted one by one."""
    keeps_every_key: bool = True
    """Whether keys stay as they are. Where false (SeaweedFS), those that would be rewritten are refused."""
    counts_tags: bool = True
    """Whether a head that counts no tags says that there are none.

    AWS leaves the count out for whoever lacks s3:GetObjectTagging, too: it must have been proven before.
    """
    connections_max: int = 256
    connect_seconds_max: float = 10.0
    answer_seconds_max: float = 60.0
    """The longest wait for the answer to a call that changes nothing; a claim's deadline bounds the others."""
    bytes_per_second_min: float = 256 * 1024
    """What a mutating call must move: so much longer than its claim allows a call without bytes may it take."""
    read_gap_seconds_max: float = 30.0
    """The longest silence amid a body that is being read."""
    idle_connection_seconds_max: float = 4.0
    """How long an unused connection is kept: less than servers keep it, so that few are found closed."""
    read_buffer_bytes: int = 256 * 1024
    """How much is read ahead of whoever consumes a body: twice that at the most, for each connection."""
    answer_bytes_max: int = 16 * 1024 * 1024
    """The longest answer that is held in memory: a page of a listing, an error."""

    def __post_init__(self) -> None:
        """Refuse an endpoint over which credentials and bytes would travel in the clear."""
        if not self.endpoint_url:
            return
        parts = urlsplit(self.endpoint_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint_url: {self.endpoint_url!r} is not an http or https URL")
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ValueError(f"endpoint_url: {self.endpoint_url!r} has more than scheme, host and port")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError(f"endpoint_url: {self.endpoint_url!r} is neither https nor on loopback")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes: `base` and `path` make its URL, `host` is its header."""

    base: str
    host: str
    path: str


def locate(config: S3Config, region: str, bucket: str, key: str | None) -> Address:
    """The address of a bucket or an object.

    Virtual-hosted on AWS, except for names with a dot, which no wildcard certificate covers ("Virtual hosting
    of general purpose buckets", Amazon S3 User Guide); by path at an endpoint of one's own. Raises
    UnicodeEncodeError for a key that has no UTF-8.
    """
    names = () if key is None else (key,)
    if config.endpoint_url:
        scheme, _, host = config.endpoint_url.rstrip("/").partition("://")
        return Address(f"{scheme}://{host}", host, encode_path(bucket, *names))
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{region}.{domain}"
    if "." in bucket:
        return Address(f"https://{host}", host, encode_path(bucket, *names))
    host = f"{bucket}.{host}"
    return Address(f"https://{host}", host, encode_path(*names) if names else "/")
