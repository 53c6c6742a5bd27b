"""Asking applications on this host whether they are ready."""
