"""True labels that came in: which of them are believed, and which are worth asking for."""
