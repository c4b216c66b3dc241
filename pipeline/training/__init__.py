"""Train one configuration for one budget and report its learning curve."""
