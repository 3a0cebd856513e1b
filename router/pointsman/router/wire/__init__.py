"""Wire formats: how requests, answers and errors look to a client."""
