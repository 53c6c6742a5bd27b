"""Ports served from Redis."""
