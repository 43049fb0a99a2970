"""Offers and their answers as they travel between us and a tenant: JSON, without any secret in the clear."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rekeyd.domain.custody import Offer, OfferAnswer
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import TenantName, utc_timestamp
from rekeyd.domain.key import KEY_ARN

OFFER_SCHEMA: Literal["rekeyd.offer/1"] = "rekeyd.offer/1"
ANSWER_SCHEMA: Literal["rekeyd.offer-answer/1"] = "rekeyd.offer-answer/1"
DOCUMENT_BYTES_MAX = 64 * 1024
"""Longer than any offer or answer: what is longer is neither."""


def _a_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64, in one line and with its padding") from None
    return text


_Base64 = Annotated[str, StringConstraints(min_length=1, max_length=16_384), AfterValidator(_a_base64)]
_KeyArn = Annotated[str, StringConstraints(pattern=rf"^{KEY_ARN}\z")]


class OfferDocument(BaseModel):
    """What a tenant gets: a key that waits for its material, and the key service's own key to wrap that with."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    schema_name: Literal["rekeyd.offer/1"] = Field(default=OFFER_SCHEMA, alias="schema")
    tenant: TenantName
    ref: _KeyArn
    public_key: Annotated[str, StringConstraints(max_length=8192)]
    """PEM. RSA-OAEP with SHA-256, for OAEP and for MGF1."""
    import_token: _Base64
    expires_at: str

    @classmethod
    def of(cls, tenant: str, offer: Offer) -> OfferDocument:
        """The offer, to be handed out."""
        return cls(
            tenant=tenant,
            ref=offer.ref,
            public_key=offer.public_key,
            import_token=base64.b64encode(offer.import_token).decode(),
            expires_at=utc_timestamp(offer.expires_at) or "",
        )


class AnswerDocument(BaseModel):
    """What a tenant sends back: its key, wrapped for the key service, which alone can unwrap it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, hide_input_in_errors=True
    )

    schema_name: Literal["rekeyd.offer-answer/1"] = Field(default=ANSWER_SCHEMA, alias="schema")
    ref: _KeyArn
    import_token: _Base64
    encrypted_material: _Base64 = Field(repr=False)

    @classmethod
    def to(cls, offer: OfferDocument, encrypted_material: bytes) -> AnswerDocument:
        """The answer to an offer."""
        return cls(
            ref=offer.ref,
            import_token=offer.import_token,
            encrypted_material=base64.b64encode(encrypted_material).decode(),
        )

    def answer(self) -> OfferAnswer:
        """As the key service takes it."""
        return OfferAnswer(
            self.ref, base64.b64decode(self.import_token), base64.b64decode(self.encrypted_material)
        )


def read_offer(raw: bytes) -> OfferDocument:
    """Read an offer. Raises RefusedError naming the field."""
    try:
        return OfferDocument.model_validate_json(raw)
    except ValidationError as error:
        raise _refusal(error, "offer") from None


def read_answer(raw: bytes) -> AnswerDocument:
    """Read the answer to an offer. Raises RefusedError naming the field, which never quotes what was sent."""
    try:
        return AnswerDocument.model_validate_json(raw)
    except ValidationError as error:
        raise _refusal(error, "answer") from None


def _refusal(error: ValidationError, whole: str) -> RefusedError:
    first = error.errors(include_url=False, include_input=False)[0]
    return RefusedError(".".join(str(part) for part in first["loc"]) or whole, first["msg"])
