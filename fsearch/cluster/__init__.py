"""What runs for a daemon on a Ray cluster, as `python -m fsearch.cluster.bridge` and in Ray's actors.

Nobody imports it: the daemon starts it by name, and Ray is imported here alone.
"""
