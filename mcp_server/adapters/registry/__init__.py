"""The JSON-file registry: a snapshot and a journal in one directory, shared by many processes without a
server.
"""
