"""Pure building blocks: PI-resize, encodings, tokenizer, pyramid."""
