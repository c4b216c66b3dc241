"""A run's configurations and curves in the files of other programs' boards, written by their own packages."""
