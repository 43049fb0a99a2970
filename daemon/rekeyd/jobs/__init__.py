"""The stories: what a job does from its claim to its end, and the worker that claims and runs them."""
