"""The switch, explored: switch.py says how."""

from __future__ import annotations

import pytest

from tests.model.rules import SwitchRule
from tests.model.switch import model
from tests.model.switch_state import Daemon, Request, State
from tests.model.verdicts import assert_breaks, assert_nothing_breaks

LOST = "the target isn't what the source is"
MISSED = "misses what was written"
BREAKS = {
    SwitchRule.EXPIRY_TESTED: LOST,
    SwitchRule.WRITES_BOUNDED: LOST,
    SwitchRule.UPLOADS_ABORTED: "a write takes effect in the source after `dedicated` did",
    SwitchRule.EPOCHS_NEVER_FALL: "epoch falls",
    SwitchRule.TIME_READ_FIRST: MISSED,
    SwitchRule.COMPARE_AND_SET: LOST,
    SwitchRule.RETURN_IN_TIME: "keeps a writer from writing after its deadline",
    SwitchRule.RETURN_COMMITTED: LOST,
    SwitchRule.RETURN_RAISES_EPOCH: LOST,
    SwitchRule.PAUSE_NOT_INHERITED: LOST,
    SwitchRule.WAIT_AFTER_COMMIT: LOST,
    SwitchRule.WAIT_FOR_RECORDS: LOST,
    SwitchRule.WAIT_FOR_WRITES: LOST,
    SwitchRule.LISTED_AFTER_WAIT: LOST,
    SwitchRule.PASS_OF_ITS_PAUSE: LOST,
    SwitchRule.VANISHED_SWEPT: LOST,
    SwitchRule.ALL_VERIFIED: LOST,
    SwitchRule.SWITCH_IN_ITS_PAUSE: LOST,
    SwitchRule.WRITES_FROM: MISSED,
    SwitchRule.WRITES_FROM_AFTER_COMMIT: MISSED,
    SwitchRule.DEDICATED_COPIES_NOTHING: "a copy changes the target after `dedicated` took effect",
}


def is_paused(state: State) -> bool:
    return state.stored.in_force


def is_dedicated(state: State) -> bool:
    return state.stored.phase == "dedicated"


LANDMARKS = {
    "a write under way in the pause": lambda state: is_paused(state) and state.writer.request is not None,
    "an upload begun before the switch": lambda state: (
        is_dedicated(state) and state.writer.upload == "source"
    ),
    "a pause that nobody ended in time": lambda state: state.stored.lapsed,
    "a second pause": lambda state: is_paused(state) and state.stored.epoch > 1,
    "a change under way whose daemon is dead": lambda state: state.change and state.daemon == Daemon(),
    "a change that comes too late": lambda state: (
        state.change and state.change.read_epoch != state.stored.epoch
    ),
    "a deleted key at the switch": lambda state: (
        is_dedicated(state) and not state.source and not state.target
    ),
    "a write under way in the target": lambda state: state.writer.request == Request("target", 1),
    "a reader who still looks at the source": lambda state: (
        is_dedicated(state) and state.reader.view is not None and state.reader.view.reads == "source"
    ),
    "a target that has changed since": lambda state: is_dedicated(state) and state.target != state.source,
}


def test_no_acknowledged_write_is_lost_and_nothing_deleted_comes_back() -> None:
    assert_nothing_breaks(model(), LANDMARKS)


@pytest.mark.parametrize("rule", SwitchRule, ids=lambda rule: rule.name)
def test_each_rule_of_the_switch_is_needed(rule: SwitchRule) -> None:
    assert_breaks(model(dropped=rule), BREAKS[rule])
