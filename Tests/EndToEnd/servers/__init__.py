"""Servers that the end-to-end tests run against. Each is its own process on a free loopback port."""
