"""What runs in processes of its own, started as `python -m fsearch.train.X`.

- `zygote`   holds torch ready and forks a worker for every attempt
- `attempt`  one attempt in a cold process
- `prepare`  one data set
- `build`    the compiled kernel

Each takes one job, reports by messages and ends. Nothing here decides what runs next or what a result means.
"""
