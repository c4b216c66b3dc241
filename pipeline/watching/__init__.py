"""The live view of a run: what its files say beyond the status, the keys that are pressed, and the screen."""
