"""`bin/torture`: random strikes against whole ingests, started again until they are complete, then compared."""
