"""Tables, figures and the report, from collected results alone."""
