"""What the SDK's answers about buckets mean. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from botocore.exceptions import ClientError

from rekeyd.domain.errors import UnavailableError
from rekeyd.stores.s3.errors import Refusal


def header(answer: Any, name: str) -> str:  # noqa: ANN401 - an SDK's answer
    """A header of the answer, empty where it has none."""
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))


def versioning(answer: Any) -> Literal["off", "enabled", "suspended"]:  # noqa: ANN401 - an SDK's answer
    """Whether versions are kept. Raises UnavailableError for a word that isn't known."""
    match answer.get("Status", ""):
        case "Enabled":
            return "enabled"
        case "Suspended":
            return "suspended"
        case "":
            return "off"
        case status:
            raise UnavailableError("GetBucketVersioning", f"the status {status!r} isn't known")


def refusal(error: ClientError) -> Refusal:
    """An error that the SDK raised, as the answer that it is made of."""
    said = error.response.get("Error", {})
    about = error.response.get("ResponseMetadata", {})
    status, code = int(about.get("HTTPStatusCode", 0)), str(said.get("Code", ""))
    return Refusal(
        status=status,
        code=code,
        detail=str(said.get("Message", "")),
        request_id=str(about.get("RequestId", "")),
        condition="",
        region="",
        retry_after_seconds=None,
        # botocore names an error by its status where the body names none. The answer to HEAD has no body.
        spoken=status < HTTPStatus.INTERNAL_SERVER_ERROR or code != str(status),
    )
