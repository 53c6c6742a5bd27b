"""Quaymaster's own PostgreSQL as something that is dumped and restored whole."""
