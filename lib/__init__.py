"""Recommending pre-trained models for IoT devices: the code behind the book."""
