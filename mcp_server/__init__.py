"""Quaymaster: infrastructure tools for AI agents over the Model Context Protocol."""
