"""The use cases of `quaymaster db`: migrate, roll back, push, pull, seed, look."""
