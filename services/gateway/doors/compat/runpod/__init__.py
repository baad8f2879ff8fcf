"""The door for clients of RunPod's serverless endpoints."""
