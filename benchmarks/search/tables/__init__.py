"""Tables of real trainings: recording, reading, and what lies between their points."""
