"""The same machine and the same time: what stock hpbandster with the authors' training finds, and what Tandem finds."""
