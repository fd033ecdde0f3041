"""LPDDR5: no RTL twin. ``exact`` issues every command for any traffic; ``stream`` gives the same times per DRAM row."""
