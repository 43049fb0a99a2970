"""The demo: the whole story on embedded servers, with a proof that doesn't ask the daemon."""

from rekeyd.demo.display import summary
from rekeyd.demo.outcome import Outcome
from rekeyd.demo.story import Instruments, run

__all__ = ["Instruments", "Outcome", "run", "summary"]
