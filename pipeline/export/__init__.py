"""Take what a search has found away from it: a folder that needs nothing of Tandem."""
