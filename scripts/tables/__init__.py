"""Parts of `scripts/make_tables.py`: packages, kernel headers, argument kinds."""
