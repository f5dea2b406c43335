"""What scripts/bench measures: `registry` lists the parts, one module each; `part` is what a part is made of.

`measure` runs commands and takes medians, `tasks` are steps that need a process of their own, `rates` and `mixes`
are decoding against the inline logger and against mere writing.
"""
