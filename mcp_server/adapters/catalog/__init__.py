"""The shape and the rows of live databases, for generated clients and for browsing."""
