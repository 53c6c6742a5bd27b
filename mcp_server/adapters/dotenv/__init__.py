"""Dotenv files of projects."""
