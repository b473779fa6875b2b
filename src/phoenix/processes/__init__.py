"""The application's processes besides its instances, and its scheduled commands: each runs once in the fleet at a time.

Runs on Python 3.9 and later, with the standard library; what talks to the database needs pymongo.
"""
