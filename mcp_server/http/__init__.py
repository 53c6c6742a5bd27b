"""HTTP routes beside the MCP endpoint: health and identity, over the same services."""
