"""Baselines and the incumbent, trained on training plus validation data for the table of results."""
