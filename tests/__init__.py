"""The project's tests, what runs them (`bin/test`) and what measures it (`bin/bench`)."""
