"""Time of whole passes: dispatch streams in, time stamps, counts and their reasons out."""
