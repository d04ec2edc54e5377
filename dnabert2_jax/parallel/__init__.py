"""The device mesh and how arrays lie on it. A leaf: anyone may import it."""
