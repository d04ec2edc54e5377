"""Self-contained HTML pages with plots. A leaf that takes plain data."""
