"""Slurm and the site: its commands and options, addresses, allocations, and what a site can be refused for."""
