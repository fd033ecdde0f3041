"""What runs on the machine: routing traces, calibrated generators, request mixes."""
