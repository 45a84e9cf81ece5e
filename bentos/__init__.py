"""What is served: one folder a Bento. They stand on the core and on nothing of the flows."""
