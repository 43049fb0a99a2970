"""Admission: a job that moves a tenant enters the ledger, or is refused on record."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import MigrateMessage, ReceivedJob
from rekeyd.domain.key import CustomerKey, key_ref
from rekeyd.domain.objects import Location
from rekeyd.ledger.port import Admission
from rekeyd.ledger.schema import UNFINISHED_JOB, jobs, locations, moves, placements
from rekeyd.ledger.sql.arrivals import Arrival, is_known, refused, store_job
from rekeyd.ledger.sql.keys import check_key, store_key
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.transaction import Refusal, Transaction


@dataclass(frozen=True, slots=True)
class Offer:
    """A job as it is offered."""

    received: ReceivedJob
    source: Location
    target: Location
    grace_seconds: int
    principal: str

    @property
    def id(self) -> str:
        return self.received.message.id

    @property
    def tenant(self) -> str:
        return self.received.message.tenant

    @property
    def key(self) -> CustomerKey:
        message = self.received.message
        assert isinstance(message, MigrateMessage), "nothing else has a source"
        return message.key

    @property
    def key_ref(self) -> str:
        return key_ref(self.key)


def admit(tx: Transaction, offer: Offer) -> Admission | Refusal:
    """Store the job, its move, its placement and its key, unless it is known already."""
    arrival = Arrival(offer.received, offer.principal)
    try:
        if is_known(tx, arrival):
            return Admission(read_job(tx.db, offer.id), created=False)
        _check_placement(tx, offer)
        _check_locations(tx, offer)
        check_key(tx, offer.tenant, offer.key)
    except (ConflictError, RefusedError) as error:
        return refused(tx, arrival, error)
    _store(tx, offer, arrival)
    return Admission(read_job(tx.db, offer.id), created=True)


def _check_placement(tx: Transaction, offer: Offer) -> None:
    placed = tx.db.execute(sa.select(placements).where(placements.c.tenant == offer.tenant)).one_or_none()
    if placed is not None and placed.phase == "revoked":
        raise RefusedError("tenant", f"is revoked by {placed.revoked_by}: reinstate that first")
    if placed is None or placed.phase != "dedicated":
        return
    if placed.target != str(offer.target):
        raise RefusedError("target", f"the tenant is dedicated in {placed.target}")
    if placed.source != str(offer.source):
        raise RefusedError("source", f"the tenant was moved from {placed.source}")
    if placed.key_ref != offer.key_ref:
        raise RefusedError("key", f"the tenant's data are under {placed.key_ref} already")


def _check_locations(tx: Transaction, offer: Offer) -> None:
    for field, location in (("source", offer.source), ("target", offer.target)):
        taken = tx.db.execute(
            sa.select(locations.c.prefix)
            .where(
                locations.c.store == location.store,
                locations.c.bucket == location.bucket,
                locations.c.tenant != offer.tenant,
                sa.or_(
                    locations.c.prefix.in_(_enclosing(location.prefix)),
                    _within(location.prefix),
                ),
            )
            .limit(1)
        ).first()
        if taken is not None:
            # Not whose: a message's sender learns nothing about other tenants.
            raise RefusedError(field, f"{location} overlaps another tenant's location")


def _enclosing(prefix: str) -> list[str]:
    """The prefix itself and every one that it lies within. Each ends in `/` or is empty."""
    ends = [end + 1 for end, letter in enumerate(prefix) if letter == "/"]
    return ["", *(prefix[:end] for end in ends)]


def _within(prefix: str) -> sa.ColumnElement[bool]:
    """What begins with the prefix, as a range that an index serves: `0` follows `/`."""
    if not prefix:
        return sa.true()
    return sa.and_(locations.c.prefix >= prefix, locations.c.prefix < prefix[:-1] + "0")


def _store(tx: Transaction, offer: Offer, arrival: Arrival) -> None:
    store_key(tx, offer.tenant, offer.key)
    _place(tx, offer)
    store_job(
        tx,
        arrival,
        move_id=_move_id(tx, offer),
        key_ref=offer.key_ref,
        grace_seconds=offer.grace_seconds,
        details={"source": str(offer.source), "target": str(offer.target)},
    )


def _move_id(tx: Transaction, offer: Offer) -> int:
    """The move of these two locations, made unless there is one: both locations become the tenant's."""
    names = {"tenant": offer.tenant, "source": str(offer.source), "target": str(offer.target)}
    tx.db.execute(tx.insert(moves).values(**names).on_conflict_do_nothing())
    for location in (offer.source, offer.target):
        tx.db.execute(
            tx.insert(locations)
            .values(
                store=location.store,
                bucket=location.bucket,
                prefix=location.prefix,
                tenant=offer.tenant,
            )
            .on_conflict_do_nothing()
        )
    found = tx.db.execute(
        sa.select(moves.c.id).where(*(moves.c[name] == value for name, value in names.items()))
    ).scalar_one()
    return int(found)


def _place(tx: Transaction, offer: Offer) -> None:
    """Make the tenant's placement. One that is there already follows the job only while no other job is under way."""
    heading = {"source": str(offer.source), "target": str(offer.target), "key_ref": offer.key_ref}
    insert = tx.insert(placements).values(tenant=offer.tenant, phase="shared", epoch=0, **heading)
    under_way = sa.select(jobs.c.id).where(jobs.c.tenant == offer.tenant, sa.text(UNFINISHED_JOB)).exists()
    tx.db.execute(
        insert.on_conflict_do_update(
            index_elements=[placements.c.tenant],
            set_=heading,
            where=sa.and_(placements.c.phase == "shared", sa.not_(under_way)),
        )
    )
