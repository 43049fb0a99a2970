"""Addresses as they stand in the settings: checked, and given back as they are.

Each function raises ValueError saying what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.objects import Location

_KMS_KEY = re.compile(r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+")
_ROLE = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")
_PRINCIPAL = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]{1,512}")
# What systemd takes for a credential's name is what a file may be called (systemd.exec(5), "LoadCredential=").
_CREDENTIAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _web_address(text: str) -> SplitResult:
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("write https://HOST or https://HOST:PORT")
    _ = address.port  # raises where it is no number
    if address.username is not None or address.query or address.fragment:
        raise ValueError("write no credentials, query or fragment into it")
    if address.scheme == "http" and not _is_loopback(address.hostname):
        raise ValueError(
            "plain http is for loopback only: payloads are not signed, and backups would cross a "
            "network in the clear. Use https"
        )
    return address


def endpoint_address(text: str) -> str:
    if text and _web_address(text).path not in ("", "/"):
        raise ValueError("write no path after the host")
    return text.removesuffix("/")


def service_of(endpoint_url: str) -> str:
    """Who answers at a checked endpoint, the same for every spelling of it that can be told from the text."""
    address = urlsplit(endpoint_url)
    host = (address.hostname or "").rstrip(".")
    if not host or host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "aws"
    port = address.port or {"http": 80, "https": 443}[address.scheme]
    return f"{'loopback' if _is_loopback(host) else host}:{port}"


def queue_address(text: str) -> str:
    if text and _web_address(text).path.strip("/") == "":
        raise ValueError("write the whole address of the queue, its name included")
    return text


def listen_address(text: str) -> str:
    address = urlsplit(f"//{text}")
    if not address.hostname or address.port is None or address.netloc != text:
        raise ValueError("write HOST:PORT, or [ADDRESS]:PORT for IPv6")
    return text


def sqlite_address(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found or scheme != "sqlite":
        raise ValueError(f"this release keeps its ledger in SQLite only, not in {scheme or text!r}")
    if not rest.startswith("/") or not rest.strip("/") or rest.endswith(("/", ":memory:")) or "?" in rest:
        raise ValueError("write sqlite:///PATH with the whole path of a file")
    return text


def signing_key(text: str) -> str:
    if text.startswith("arn:"):
        if not _KMS_KEY.fullmatch(text):
            raise ValueError("write the whole ARN of a KMS key, or of its alias")
    elif text and not text.startswith("/") and not _CREDENTIAL.fullmatch(text):
        raise ValueError(
            "write the whole path of a file, the name of a systemd credential, or a KMS key's ARN"
        )
    return text


def absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("write the whole path of a file")
    return text


def kms_key(text: str) -> str:
    if text and not _KMS_KEY.fullmatch(text):
        raise ValueError("write the whole ARN of a KMS key, or of its alias")
    return text


def role(text: str) -> str:
    if text and not _ROLE.fullmatch(text):
        raise ValueError("write the whole ARN of an IAM role: arn:aws:iam::ACCOUNT:role/NAME")
    return text


def principals(named: tuple[str, ...]) -> tuple[str, ...]:
    """No account as a whole, and nobody from everywhere: who is named reads and writes tenants' data."""
    for text in named:
        if not _PRINCIPAL.fullmatch(text):
            raise ValueError(f"write the whole ARN of an IAM role or user, not {text!r}")
    return named


def location_or_empty(text: str) -> str:
    if text:
        try:
            Location.parse(text)
        except RefusedError as error:
            raise ValueError(error.reason) from error
    return text
