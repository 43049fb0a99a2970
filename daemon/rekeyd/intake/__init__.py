"""Intake: how jobs arrive, and what must be true of one before the ledger has it."""
