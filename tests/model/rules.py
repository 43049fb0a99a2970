"""The rules of the protocol that the models explore, each with its sentence. docs/protocol.md refers to them by name.

A model has its rules in force all together, and finds no violation; each rule is dropped in a test of its own, and
the model then finds one. A rule that could be dropped unnoticed has no place here.
"""

from __future__ import annotations

from tests.model.explorer import Rule


class SwitchRule(Rule):
    """Records, the pause and the switch: what clients and the daemon promise one another (switch.py)."""

    EXPIRY_TESTED = (
        "A client tests its record's expiry before every request, and starts none without a fresh one."
    )
    WRITES_BOUNDED = "A Put, Complete or Delete takes effect within write_seconds_max of its start, or never."
    UPLOADS_ABORTED = "A writer aborts an upload that it began elsewhere than its record now says."
    EPOCHS_NEVER_FALL = "Nobody accepts a record whose epoch is lower than one already seen."
    TIME_READ_FIRST = "The time from which a served record lives is read before the record is."
    COMPARE_AND_SET = "A change of placement is committed only over the epoch that it was made from."
    RETURN_IN_TIME = (
        "Whoever asks after a pause's deadline is told `shared`, whether or not a daemon is alive."
    )
    RETURN_COMMITTED = (
        "A return is committed before it is served; at the deadline, by whoever is about to serve it."
    )
    RETURN_RAISES_EPOCH = "A return from a pause has an epoch of its own, above the pause's."
    PAUSE_NOT_INHERITED = "Who takes a job over ends the pause that it finds, and begins another one."
    WAIT_AFTER_COMMIT = (
        "The pause's wait counts from a time of the database that is read after the pause's commit."
    )
    WAIT_FOR_RECORDS = "The wait is one time to live: every record that allowed writing expires in it."
    WAIT_FOR_WRITES = "Then it is write_seconds_max: the longest write begun under such a record ends in it."
    LISTED_AFTER_WAIT = "The last pass lists the source after the wait."
    PASS_OF_ITS_PAUSE = "The switch counts on no pass but the one made in its own pause."
    VANISHED_SWEPT = "A copy whose key a complete listing doesn't name is deleted in the target."
    ALL_VERIFIED = "The switch needs everything listed to be verified, or excluded with a reason."
    SWITCH_IN_ITS_PAUSE = (
        "Only the pause that the last pass was made in, not yet ended, leads to `dedicated`."
    )
    WRITES_FROM = (
        "The first write to the target waits one time to live: no reader looks at the source any more."
    )
    WRITES_FROM_AFTER_COMMIT = "That time counts from one that is read after the commit of `dedicated`."
    DEDICATED_COPIES_NOTHING = "From `dedicated` on nothing is listed, carried or swept any more."


class CopyRule(Rule):
    """One key's way into the target, among lost answers and dying daemons (copies.py)."""

    SOURCE_PINNED = "Every read of a source object is pinned to the version that was listed."
    WRITTEN_ON_CONDITION = "The target is written on condition: absent, or exactly the version that we wrote."
    COPY_COMPARED = "A copy is verified by comparing what the target holds with what the source held."
    SETTLED_BEFORE_VERIFIED = "Nothing is verified while a call of the attempt can still take effect."
    PLANNED_IS_OURS = "Any version whose copying was ever planned, and may have happened, is ours."
    OVERWRITTEN_IS_OURS = "So is what such a version may have been written over: the copy on record."
    CALLS_OUTLASTED = (
        "A segment is done, or given back, once no call made under its claim can still take effect."
    )
    CLAIMED_AFTER_DEADLINES = "What a holder left behind is claimed once its last call's deadline has passed."
    PASS_AFTER_SEGMENTS = "A pass begins once no segment is open."
    SOURCE_ASKED_AGAIN = "Before a copy is swept, the source itself is asked for the key."
    SWEPT_IF_OURS = "Only what is a copy of ours is swept."
    SWEPT_IF_MATCH = "A copy is swept on condition that it is the version just read."
    DROPPED_SWEPT_AGAIN = (
        "A pause's pass looks again for copies of all keys that are gone, swept before or not."
    )


class RetireRule(Rule):
    """Deleting from the source, while keys are revoked and jobs cancelled (retire.py)."""

    DEDICATED_ONLY = "Nothing is deleted from the source before the tenant is `dedicated`."
    AFTER_OLD_RECORDS = "Nothing is deleted before the last record that said `source` has expired."
    READER_LOOKS_AGAIN = "A key that is absent is looked for once more under a fresh record."
    KEY_CHECKED = "A canary in the target is read back, under the customer's key, in each attempt."
    COPY_CHECKED = "The target version that was verified is found standing in each attempt."
    RESUMED_CHECKED = "A resumed intent passes all of these checks again."
    INTENT_FIRST = "The intent to delete is committed before the request is made."
    OUTCOME_AFTER = "The outcome is committed after the answer."
    REMAINING_IS_THERE = (
        "What an attempt calls remaining, because its copy doesn't stand, is seen in the source first."
    )
    DELETED_BY_VERSION = "A delete names the version that was verified, by id or by ETag."
    CLAIM_OUTLIVES_CALL = "No call starts unless its claim lasts beyond the call's deadline."
    CALLS_OUTLASTED = "A claim is given up once no call made under it can still take effect."
    DEADLINE_TESTED = "A call's deadline is absolute, and tested again as it is sent."
    STOP_FORBIDS_CLAIMS = "From the commit of cancel or revoke on no claim is given."
    STOP_FORBIDS_RENEWALS = "From the commit of cancel or revoke on no claim is renewed."
    STOP_FORBIDS_INTENTS = "From the commit of cancel or revoke on no intent is committed."
    DONE_AFTER_CLAIMS = "Cancel and revoke are done once every claim held at their commit has ended."


class EpochRule(Rule):
    """The control object in the target, and a ledger that is older than the stores (epochs.py)."""

    PROPOSED_FIRST = "An epoch is proposed in the ledger before it is written to the control object."
    WRITTEN_BEFORE_EFFECT = "It is written to the control object before it takes effect."
    WRITTEN_ON_CONDITION = "The control object is written on condition that it is the version just read."
    PROPOSAL_SETTLED = "What is proposed is written and takes effect before anything else is proposed."
    RETURN_WRITTEN_TOO = "With a pause's epoch that of its return is written."
    DEDICATED_HAS_ITS_OWN = "The epoch of `dedicated` is not that of its pause's return."
    SWITCH_IS_PROPOSAL = (
        "Once `dedicated` is proposed it is served, with its writes closed, and no deadline undoes it."
    )
    OPENED_AFTER_WRITTEN = (
        "Its writes open, which is its taking effect, once the control object holds its epoch."
    )
    UNKNOWN_EPOCH_HELD = (
        "A ledger that knows the control object's epoch neither as in effect nor as proposed is held."
    )
    COMPARED_BEFORE_SERVING = (
        "A daemon that starts serves a tenant's placement once it has made that comparison."
    )
    HELD_SERVES_NOTHING = "A tenant that is held for it is served no placement."
