"""Requests and byte streams that nobody sends by mistake, against a front door: what breaks, leaks or grows?"""
