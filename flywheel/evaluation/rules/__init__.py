"""The rules of a gate, pure: evidence and policy in, pass, fail or not enough evidence out."""
