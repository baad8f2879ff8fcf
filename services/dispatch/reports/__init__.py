"""What running attempts report beside events, for all parts that run them."""
