"""Use cases: one class per noun, ports injected. The only place that opens transactions."""
