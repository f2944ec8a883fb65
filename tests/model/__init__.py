"""A whole run without a network, processes and PostgreSQL, which stands still until it is told the next step."""
