"""One behavioural suite of the store, on every back end."""
