"""A typed Python client of a database, as text: pure, and the same for the same shape."""
