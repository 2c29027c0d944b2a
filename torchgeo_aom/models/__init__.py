"""The model: encoder, registration and weights."""
