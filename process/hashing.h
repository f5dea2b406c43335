/* Places in hash tables that a guest cannot foresee. */
#ifndef HASHING_H
#define HASHING_H

#include <stdint.h>

/* The finalizer of MurmurHash3, begun with a seed. */
static inline uint64_t mixed(uint64_t value, uint64_t seed)
{
    value ^= seed;
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ULL;
    return value ^ value >> 33;
}

/* As process.grouping.spread: for tables that have another way to go on where many collide. */
static inline uint64_t spread(uint64_t value, int64_t bits)
{
    return value * 0x9e3779b97f4a7c15ULL >> (64 - bits);
}

#endif
