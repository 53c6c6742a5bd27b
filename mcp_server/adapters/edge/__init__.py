"""The reverse proxy: its state is a directory, and one rename is a switch of traffic."""
