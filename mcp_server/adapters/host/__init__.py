"""The machine that this process runs on, and the processes of a home on it."""
