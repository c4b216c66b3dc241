"""A worker: its process, its connection to the master, and what it does with an evaluation."""
