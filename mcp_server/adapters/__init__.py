"""One folder per outside thing. Drivers' errors are translated here, once."""
