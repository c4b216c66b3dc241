"""The search: brackets, proposals, replay and verification. Pure: no threads, no sockets, no files."""
