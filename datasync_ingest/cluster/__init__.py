"""`bin/worker`: worker processes beside a Dask scheduler. What they do there, a run with `--pool dask` tells them."""
