"""The command `rekeyd`: what operators and their scripts type. Data go to stdout, messages to stderr."""

from rekeyd.cli.commands import main

__all__ = ["main"]
