"""How `pupil` was made: drawn pictures, questions about them, a trainer, and an examination. Nothing here serves."""
