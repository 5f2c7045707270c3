"""`chiasm diagnose`: whether a running server would gain from a split, measured on it before anything is changed."""
