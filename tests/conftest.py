"""What holds for every test."""

import signal

# Started in the background of a script, a process inherits that SIGINT is ignored, and hands it on to what it starts:
# no test could see Ctrl-C then.
signal.signal(signal.SIGINT, signal.default_int_handler)
