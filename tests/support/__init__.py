"""What several test modules share: processes to start and things to ask of them."""
