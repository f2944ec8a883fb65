"""What Citus refuses of a distributed table, told from the text of a statement: no Citus can be run here."""
