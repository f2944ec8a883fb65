"""The API's stand-in: a real HTTP server with every documented behaviour and fault; the pipeline never imports it."""
