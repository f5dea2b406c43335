"""Stage two: decode segments, on any machine."""
