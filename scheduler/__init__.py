"""The scheduler: a pure core, and the actor that hosts it."""
