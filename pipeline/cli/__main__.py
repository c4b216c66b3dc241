"""`python -m pipeline.cli`: what the program starts of itself, wherever `tandem` lies."""

from pipeline.cli import main

main()
