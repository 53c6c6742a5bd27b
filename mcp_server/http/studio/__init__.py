"""A browser of one database, as a page on loopback."""
