"""`chiasm diagnose`: whether a running server would gain from a split, measured on that server before anything is changed."""
