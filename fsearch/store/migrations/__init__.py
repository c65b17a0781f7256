"""The schemas of every release, one module each: m0001_what_it_does.py holds revision 0001.

Written by hand and never changed once released; `fsearch.store.schema` runs them.
"""
