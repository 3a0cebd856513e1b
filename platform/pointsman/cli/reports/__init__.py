"""Reports of what was used and what it cost: asked for, and shown as a table, a file or a picture."""
