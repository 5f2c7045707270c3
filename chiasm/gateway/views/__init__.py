"""What a gateway shows of its cluster to those who run it: state, courses of requests, machines, metrics."""
