"""From a model, a machine and a pass to the dispatch stream (`compile.py` lists the passes), and to PE programs."""
