"""How long a test waits for what must come about."""

HANG_SECONDS = 240.0
"""Beyond it a condition counts as never coming. It bounds a hang and promises nothing about speed: machines, and what
else runs on them, differ many times over."""
