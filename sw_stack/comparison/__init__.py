"""Machines compared: cells, suites, means, sensitivity. Timing is the engine's, drawing is `sw_stack.reports`'s."""
