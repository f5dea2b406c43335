/* Distinct values and orders of arrays. The module of the same name says what each function takes and gives. */
#include "hashing.h"
#include "kernels.h"

/* Places for all distinct values so far, in a table of another size. */
static uint32_t *rehashed(const uint64_t *distinct, int64_t count, uint64_t seed, uint64_t mask)
{
    uint32_t *table = calloc(mask + 1, sizeof *table);
    for (int64_t i = 0; table && i < count; i++) {
        uint64_t at = mixed(distinct[i], seed) & mask;
        while (table[at])
            at = (at + 1) & mask;
        table[at] = (uint32_t)(i + 1);
    }
    return table;
}

int64_t group(const uint64_t *values, int64_t n, uint64_t seed, uint64_t *distinct, int64_t *inverse)
{
    uint64_t mask = (1 << 12) - 1;
    int64_t count = 0, steps = 0;
    uint32_t *table = rehashed(distinct, 0, seed, mask);
    if (!table)
        return OUT_OF_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        uint64_t value = values[i];
        if (i && value == values[i - 1]) {
            inverse[i] = inverse[i - 1];
            continue;
        }
        uint64_t at = mixed(value, seed) & mask;
        while (table[at] && distinct[table[at] - 1] != value) {
            at = (at + 1) & mask;
            steps++;
        }
        if (!table[at]) {
            distinct[count++] = value;
            table[at] = (uint32_t)count;
            if ((uint64_t)count * 2 > mask) {
                uint32_t *larger = rehashed(distinct, count, seed, mask << 2 | 3);
                free(table);
                if (!larger)
                    return OUT_OF_MEMORY;
                table = larger;
                mask = mask << 2 | 3;
                inverse[i] = count - 1;
                continue;
            }
        }
        inverse[i] = (int64_t)table[at] - 1;
        if (steps > 64 * i + (1 << 16)) { /* somebody has found values that collide */
            free(table);
            return UNSUITED;
        }
    }
    free(table);
    return count;
}

/* What the texts of an argument of a call are, if it has one: prefix -1 if it has none. */
struct kind {
    int32_t prefix, suffix, is_pointer;
};

/* Of each distinct text what it is made of. */
struct parts {
    uint64_t *values;
    uint32_t *prefixes, *suffixes;
    uint8_t *nulls;
};

static inline uint64_t place_of(uint64_t value, uint32_t prefix, uint32_t suffix, uint64_t seed)
{
    return mixed(value + ((uint64_t)prefix << 32 | suffix) * 0x9e3779b97f4a7c15ULL, seed);
}

static uint32_t *rehashed_parts(const struct parts *of, int64_t count, uint64_t seed, uint64_t mask)
{
    uint32_t *table = calloc(mask + 1, sizeof *table);
    for (int64_t i = 0; table && i < count; i++) {
        uint64_t at = place_of(of->values[i], of->prefixes[i], of->suffixes[i], seed) & mask;
        while (table[at])
            at = (at + 1) & mask;
        table[at] = (uint32_t)(i + 1);
    }
    return table;
}

int64_t number_texts_of(int64_t n, const uint64_t *values, const int64_t *call_of, const struct kind *kinds,
                        const int32_t *own, uint64_t seed, uint64_t *distinct, uint32_t *prefixes, uint32_t *suffixes,
                        uint8_t *nulls, int32_t *codes)
{
    struct parts of = {distinct, prefixes, suffixes, nulls};
    uint64_t mask = (1 << 12) - 1;
    int64_t count = 0, steps = 0;
    uint32_t *table = rehashed_parts(&of, 0, seed, mask);
    for (int64_t i = 0; table && i < n; i++) {
        const struct kind *kind = kinds + call_of[i];
        codes[i] = -1;
        if (kind->prefix < 0)
            continue;
        uint64_t value = values[i];
        int is_null = kind->is_pointer && !value;
        uint32_t prefix = (uint32_t)kind->prefix;
        uint32_t suffix = (uint32_t)(is_null ? 0 : own && own[i] >= 0 ? own[i] : kind->suffix);
        uint64_t at = place_of(value, prefix, suffix, seed) & mask;
        for (; table[at]; at = (at + 1) & mask, steps++) {
            uint32_t other = table[at] - 1;
            if (distinct[other] == value && prefixes[other] == prefix && suffixes[other] == suffix
                && nulls[other] == is_null)
                break;
        }
        if (table[at]) {
            codes[i] = (int32_t)table[at] - 1;
        } else {
            distinct[count] = value;
            prefixes[count] = prefix;
            suffixes[count] = suffix;
            nulls[count] = (uint8_t)is_null;
            codes[i] = (int32_t)count++;
            table[at] = (uint32_t)count;
            if ((uint64_t)count * 2 > mask) {
                free(table);
                mask = mask << 2 | 3;
                table = rehashed_parts(&of, count, seed, mask);
            }
        }
        if (steps > 64 * i + (1 << 16)) { /* as in `group` */
            free(table);
            return UNSUITED;
        }
    }
    if (!table)
        return OUT_OF_MEMORY;
    free(table);
    return count;
}

struct keyed {
    uint64_t key;
    uint32_t index;
};

enum { DIGIT = 11, DIGITS = 1 << DIGIT };

/* Sort by one digit of the keys after the other, the lowest first; those that all have in common cost nothing. */
int64_t in_order(const int64_t *keys, int64_t n, int64_t *order, int64_t *sorted)
{
    int64_t low = n ? keys[0] : 0, high = low, is_sorted = 1;
    for (int64_t i = 1; i < n; i++) {
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
        is_sorted &= keys[i - 1] <= keys[i];
    }
    if (is_sorted) {
        for (int64_t i = 0; i < n; i++) {
            order[i] = i;
            sorted[i] = keys[i];
        }
        return 0;
    }
    struct keyed *from = malloc((size_t)n * sizeof *from), *to = malloc((size_t)n * sizeof *to);
    int64_t *starts = malloc(DIGITS * sizeof *starts);
    if (!from || !to || !starts) {
        free(from), free(to), free(starts);
        return OUT_OF_MEMORY;
    }
    for (int64_t i = 0; i < n; i++)
        from[i] = (struct keyed){(uint64_t)keys[i] - (uint64_t)low, (uint32_t)i};
    for (int shift = 0; shift < 64 && ((uint64_t)high - (uint64_t)low) >> shift; shift += DIGIT) {
        memset(starts, 0, DIGITS * sizeof *starts);
        for (int64_t i = 0; i < n; i++)
            starts[from[i].key >> shift & (DIGITS - 1)]++;
        if (starts[from[0].key >> shift & (DIGITS - 1)] == n)
            continue;
        for (int64_t digit = 0, before = 0; digit < DIGITS; digit++) {
            int64_t count = starts[digit];
            starts[digit] = before;
            before += count;
        }
        for (int64_t i = 0; i < n; i++)
            to[starts[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
        struct keyed *moved = to;
        to = from;
        from = moved;
    }
    for (int64_t i = 0; i < n; i++) {
        order[i] = from[i].index;
        sorted[i] = (int64_t)(from[i].key + (uint64_t)low);
    }
    free(from), free(to), free(starts);
    return 0;
}

static uint64_t hash_of(const uint8_t *text, int64_t size, uint64_t seed)
{
    uint64_t hash = seed ^ (uint64_t)size, chunk = 0;
    for (; size >= 8; size -= 8, text += 8) {
        memcpy(&chunk, text, 8);
        hash = mixed(hash ^ chunk, seed);
    }
    chunk = 0;
    memcpy(&chunk, text, (size_t)size);
    return mixed(hash ^ chunk, seed);
}

int64_t group_texts(const int64_t *offsets, const uint8_t *data, int64_t n, uint64_t seed, int64_t *firsts,
                    int64_t *inverse)
{
    uint64_t mask = 15;
    while (mask < (uint64_t)n * 2)
        mask = mask << 1 | 1;
    uint32_t *table = calloc(mask + 1, sizeof *table);
    if (!table)
        return OUT_OF_MEMORY;
    int64_t count = 0, steps = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *text = data + offsets[i];
        int64_t size = offsets[i + 1] - offsets[i];
        uint64_t at = hash_of(text, size, seed) & mask;
        for (; table[at]; at = (at + 1) & mask, steps++) {
            int64_t other = firsts[table[at] - 1];
            if (offsets[other + 1] - offsets[other] == size && !memcmp(data + offsets[other], text, (size_t)size))
                break;
        }
        if (!table[at]) {
            firsts[count++] = i;
            table[at] = (uint32_t)count;
        }
        inverse[i] = (int64_t)table[at] - 1;
        if (steps > 64 * i + (1 << 16)) { /* as in `group` */
            free(table);
            return UNSUITED;
        }
    }
    free(table);
    return count;
}
