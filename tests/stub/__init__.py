"""Stand-ins for the programs of `fsearch.train`, without torch: a training lasts a millisecond.

    FSEARCH_PROGRAMS=tests.stub fsearch run PLAN ...

Everything else is real: the daemon, its record, the zygote's process and loop, the messages, the signals, the
files. What a training gives is a function of its job, so two runs of a plan give the same numbers.

FSEARCH_STUB says what a training does instead: see `attempt`.
"""

HALF = 8
"""Examples in each half of the validation set."""
