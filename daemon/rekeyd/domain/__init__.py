"""Pure values and decisions: nothing here waits, reads a clock or the environment, or knows an SDK."""
