"""The lab: PANDA and small guests, prepared from PyPI and Debian packages alone.

`machines` (what each architecture needs) and `store` (the cache folder) come first; `debian` fetches
packages; `standins` and `panda` make libpanda load; `compilers`, `tools` (Debian's programs with their libraries),
`cpio`, `workloads` and `guest` build what it boots; `boot` boots it.
"""
