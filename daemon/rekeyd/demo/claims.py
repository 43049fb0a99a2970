"""What rekeyd itself says at the end, asked as an operator asks: it must agree with what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rekeyd.demo.load import Loaded
from rekeyd.demo.processes import Operator
from rekeyd.demo.proof import Finding
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Location

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType

_DEPTHS: tuple[QueueAttributeNameType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
)


def job_completed(job: Job | None, loaded: Mapping[str, Loaded], why_not: str) -> Finding:
    """The job is completed, and its counts are those of what was loaded."""
    claim = "the job is completed, its counts are those of what was loaded"
    if job is None or job.state != "completed":
        words = "the job never reached the ledger" if job is None else f"the job is {job.state}"
        if job is not None and job.error:
            words += f" ({job.held_reason or 'error'}: {job.error})"
        return Finding("job_completed", claim, 1, tuple(fault for fault in (words, why_not) if fault))
    size_bytes = sum(sent.size_bytes for sent in loaded.values())
    counts = job.counts
    said = {
        "objects listed": (counts.objects_listed, len(loaded)),
        "objects verified": (counts.objects_verified, len(loaded)),
        "objects excluded": (counts.objects_excluded, 0),
        "objects deleted": (counts.objects_deleted, len(loaded)),
        "bytes listed": (counts.bytes_listed, size_bytes),
        "bytes verified": (counts.bytes_verified, size_bytes),
    }
    faults = tuple(f"{what}: {told:,}, not {true:,}" for what, (told, true) in said.items() if told != true)
    return Finding("job_completed", claim, len(loaded), faults)


def daemon_ended(status: int | None) -> Finding:
    """SIGTERM ends the daemon in time, with exit status 0."""
    words = "it didn't end in time" if status is None else f"exit status {status}"
    faults = () if status == 0 else (words,)
    return Finding("daemon_ended", "SIGTERM ends the daemon with exit status 0", 1, faults)


async def message_taken(sqs: SQSClient, queue_url: str, dead_letter_url: str) -> Finding:
    """The job's message is neither left in the queue nor given up to the dead letters."""
    faults = []
    for words, url in (("left in the queue", queue_url), ("among the dead letters", dead_letter_url)):
        answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_DEPTHS)
        messages = sum(int(answer["Attributes"][name]) for name in _DEPTHS)
        if messages:
            faults.append(f"{messages} {words}")
    return Finding("message_taken", "the job's message was taken off the queue", 1, tuple(faults))


async def placement_dedicated(operator: Operator, tenant: str, target: Location) -> Finding:
    """Readers and writers are sent to the target and nowhere else: `rekeyd placement TENANT`."""
    said = await operator.ask("placement", tenant)
    assert isinstance(said, dict)
    wanted = {"phase": "dedicated", "reads": [str(target)], "writes": [str(target)], "key_state": "active"}
    faults = tuple(f"{name}: {said.get(name)}" for name, value in wanted.items() if said.get(name) != value)
    return Finding("placement_dedicated", "the placement is dedicated: reads and writes go there", 1, faults)


async def audit_whole(operator: Operator) -> Finding:
    """The audit trail's chains hold, and there are records in them: `rekeyd audit verify`."""
    said = await operator.ask("audit", "verify")
    assert isinstance(said, dict)
    chains = said["chains"]
    faults = tuple(f"{chain['chain']}: {chain['broken']}" for chain in chains if chain["broken"])
    return Finding(
        "audit_whole", "the audit trail's hash chain holds", sum(chain["records"] for chain in chains), faults
    )
