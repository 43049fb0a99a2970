"""Custody: everything done to keys."""
