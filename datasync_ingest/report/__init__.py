"""`bin/report`: what is kept of runs and of their events, as one HTML page that needs no network."""
