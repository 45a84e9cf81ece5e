"""The classifier's service: one FastAPI app in one BentoML service."""
