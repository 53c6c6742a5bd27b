"""PostgreSQL with a registry under it: the store that loses nothing when PostgreSQL goes away.

It knows its two stores only through `ports.mirror`.
"""
