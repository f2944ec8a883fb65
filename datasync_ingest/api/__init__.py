"""The API: one request, when the next may start, what an answer means, and what a page's envelope says."""
