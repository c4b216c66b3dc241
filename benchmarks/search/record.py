"""`python -m benchmarks.search.record`: see `benchmarks.search.tables.record`."""

from benchmarks.search.tables.record import main

if __name__ == "__main__":
    main()
