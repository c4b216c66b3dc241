"""Examine a site before the first submission: what was found, and how to mend what is at fault."""
