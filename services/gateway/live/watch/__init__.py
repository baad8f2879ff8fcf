"""What is watched as a state: a snapshot first, then what was added, changed and removed.

Jobs have a log, and every event of it is sent. Workers and queues have a state: who watches one gets the
newest, however slowly it reads, and never a backlog. A `Source` says what there is, who may see it, and when
it may have changed; a `Board` reads it once for all who watch, a `View` is what all with the same filter see,
and a `Watcher` is one reader's place in that.
"""
