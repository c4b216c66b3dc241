"""Peers: released packages of others, each in an environment and a process of its own."""
