"""What a served model sees, compared with what it was made for: drift, its cost, its cause."""
