"""What people and scripts see: the commands and their screens. It decides nothing and computes no verdict.

One module a verb. Everything they show comes from one view of (plan, record), `fsearch.ui.view`.
"""
