"""`chiasm bench itl`: what image tokens cost the streams of the requests that bring them, and of those beside them."""
