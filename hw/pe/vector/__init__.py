"""Vector unit: FP32 operations on rows, row maxima, sigmoid, requantisation."""
