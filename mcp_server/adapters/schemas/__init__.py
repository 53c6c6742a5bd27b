"""Folders of SQL on the disk, and the live databases that they describe."""
