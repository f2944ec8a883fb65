"""PostgreSQL: the schema, the connection, the writers and the embedded server. The only room that holds SQL."""
