"""Vectors and ranks for clients that exist: OpenAI's and Ollama's embeddings, and rerank as Cohere and Jina have it."""
