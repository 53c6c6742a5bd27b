"""Asking DNS."""
