"""A cluster on a network of its own: machines as Linux' network namespaces, which can be cut off and joined again."""
