"""What a search will cost, before it starts and while it runs: arithmetic and a simulation, without processes."""
