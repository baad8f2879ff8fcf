"""How prediction servers are spoken to, and what they say; for pushers and the gateways they call back."""
