"""The comparison of search methods: problems, one protocol, Tandem's own methods, its peers (`make bench-search`)."""
