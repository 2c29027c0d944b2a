"""Building blocks of the model, which need torch and timm only."""
