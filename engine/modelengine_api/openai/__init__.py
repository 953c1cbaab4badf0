"""OpenAI's API over the native protocol: pure translations of what is asked and what is answered, and their routes."""
