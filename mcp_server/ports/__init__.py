"""What the services need from the outside, in our nouns. Each docstring is the contract."""
