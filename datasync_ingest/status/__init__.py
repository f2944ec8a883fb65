"""How an ingest stands: `looking.py` asks, `state.py` is the answer, `text.py` says it, `watching.py` asks again."""
