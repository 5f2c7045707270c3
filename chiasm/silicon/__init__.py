"""Which cards there are, what each can do, and which half of a model suits which. Pure but for its command."""
