"""Deployments: images built, versions started beside each other, traffic moved between them, and put right after a crash."""
