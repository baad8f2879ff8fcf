"""What stands between every request and its door: ids, guards, packing, and pages of other origins."""
