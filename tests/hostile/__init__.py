"""Attacks on a real server, each as data and a small driver over one harness."""
