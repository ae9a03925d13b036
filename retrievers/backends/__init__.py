"""Index folders whose vectors are searched by an engine: loading one, searching with one, reading one alone."""
