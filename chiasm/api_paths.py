"""Paths of OpenAI's API: gateways and engines serve them, clients and benchmarks call them. Imports nothing."""

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
