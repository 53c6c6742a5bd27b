"""AES-256-GCM under keys from a setting or from a file in the home."""
