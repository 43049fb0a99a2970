"""One object's journey: planned, copied, verified, and at last retired."""
