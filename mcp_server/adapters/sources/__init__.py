"""What images are built from."""
