"""What pages are made of: escaped markup, tables, charts, and what is shown where there is nothing to show."""
