"""The pusher: prediction servers that register are checked here, and jobs are pushed to them."""
