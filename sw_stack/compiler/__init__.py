"""From a model and a machine to a program: placement of weights, later graph, sharding, tiling and emission."""
