"""Studies of bands, patch sizes, sensors, objectives and other models: rows, figures, reports."""
