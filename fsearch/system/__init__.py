"""What every room may use of the operating system: atomic files, messages between processes, life and death.

Imports nothing of ours and no third-party package.
"""
