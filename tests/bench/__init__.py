"""`bin/bench`: the program beside what the machine can do at most, measured side by side in one run."""
