"""Webhooks: posting to addresses that a team names, and to no internal one."""
