"""A run: its folder, how it is made, its history, its status and where it came from."""
