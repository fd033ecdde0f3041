"""Machines to compare, and the engine that times all of them."""
