"""Many images over many processes or machines: units of work, the workers that do them, a manifest of what was done.

    units      what is done at one place at one time: an image, or a band of one that is very large
    workers    hands units to workers as they are free; futures of the engine's bring the outcomes
    processes  handles of processes on this machine, one for each device (concurrent.futures)
    ray_actors handles of Ray actors, one for each device of a cluster
    start      handles of either kind, as the user asks for them
    worker     what runs behind a handle, in another process
    shown      how far the workers are
    manifest   a line for each outcome

Nothing here knows what the work is: a worker is given a function that makes it (`xt.prediction.unit_work`,
`xt.training.fold_workers`).
"""
