"""What `pointsman chat` is made of: where the router is, how it is asked, what is shown, and the conversation."""
