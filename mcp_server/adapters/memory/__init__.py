"""Ports served from this process's memory."""
