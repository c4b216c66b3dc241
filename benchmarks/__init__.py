"""Measure what the documentation claims: training, dispatch, analysis, and requeueing."""
