"""The door for the clients of OpenAI."""
