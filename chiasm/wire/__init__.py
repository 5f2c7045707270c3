"""ZeroMQ, wrapped in one place: embeddings between engines, scheduling messages between processes."""
