"""What a worker is made of: how it evaluates, and how it stays in touch with whichever master there is."""
