"""The MCP face: one file per noun, a few lines per tool."""
