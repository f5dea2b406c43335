/* The loops of decoding that numpy could only do in many passes. kernels.py says what each takes and gives.
 *
 * Arrays are contiguous and of the lengths that kernels.py has checked; nothing here trusts a value in them to be an
 * index unless it was made by this project. Nothing is kept from call to call, and no Python is called, so that the
 * interpreter's lock is free meanwhile (ctypes).
 */
#include "hashing.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NEVER INT64_MAX

enum { OUT_OF_MEMORY = -1, UNSUITED = -2 };

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
int64_t in_order(const int64_t *keys, int64_t n, int64_t *order)
{
    int64_t low = n ? keys[0] : 0, high = low, is_sorted = 1;
    for (int64_t i = 1; i < n; i++) {
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
        is_sorted &= keys[i - 1] <= keys[i];
    }
    if (is_sorted) {
        for (int64_t i = 0; i < n; i++)
            order[i] = i;
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
        struct keyed *sorted = to;
        to = from;
        from = sorted;
    }
    for (int64_t i = 0; i < n; i++)
        order[i] = from[i].index;
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

static int is_zero(const uint8_t *plane, int64_t count)
{
    return !count || (!plane[0] && !memcmp(plane, plane + 1, (size_t)count - 1));
}

/* Where each record is stored, if they are sorted by 16 bits: the low planes of the key, which are in recorded order.
 * Gives the places, or NULL if there is no memory. */
static uint32_t *sorted_places(const uint8_t *low, const uint8_t *high, int64_t count)
{
    int most = 0;
    for (int64_t i = 0; i < count; i++)
        most = high[i] > most ? high[i] : most;
    uint32_t *places = malloc((size_t)(count + 1) * sizeof *places);
    uint32_t *starts = calloc((size_t)(most + 1) << 8, sizeof *starts);
    if (!places || !starts) {
        free(places), free(starts);
        return NULL;
    }
    for (int64_t i = 0; i < count; i++)
        starts[high[i] << 8 | low[i]]++;
    uint32_t before = 0;
    for (int key = 0; key < (most + 1) << 8; key++) {
        uint32_t of_key = starts[key];
        starts[key] = before;
        before += of_key;
    }
    for (int64_t i = 0; i < count; i++)
        places[i] = starts[high[i] << 8 | low[i]]++;
    free(starts);
    return places;
}

int64_t unplane(const uint8_t *payload, int64_t count, int64_t take, int64_t key, int64_t summed, uint64_t wanted,
                uint64_t *out, int64_t stride)
{
    const uint8_t *keys = payload + 8 * key * count;
    if (!is_zero(keys + 2 * count, 2 * count))
        return UNSUITED;
    uint32_t *places = sorted_places(keys, keys + count, count);
    uint64_t *stored = malloc((size_t)(count + 1) * sizeof *stored);
    if (!places || !stored) {
        free(places), free(stored);
        return OUT_OF_MEMORY;
    }
    for (int64_t word = 0; word < 64; word++) {
        if (!(wanted >> word & 1))
            continue;
        uint64_t *found = out + word * stride;
        const uint8_t *planes = payload + 8 * word * count;
        int filled = 0;
        for (int byte = word == key ? 4 : 0; byte < 8; byte++) {
            const uint8_t *plane = planes + byte * count;
            if (is_zero(plane, count))
                continue;
            if (filled++)
                for (int64_t i = 0; i < count; i++)
                    stored[i] |= (uint64_t)plane[i] << 8 * byte;
            else
                for (int64_t i = 0; i < count; i++)
                    stored[i] = (uint64_t)plane[i] << 8 * byte;
        }
        if (filled)
            for (int64_t i = 0; i < take; i++)
                found[i] = stored[places[i]];
        else
            memset(found, 0, (size_t)take * sizeof *found);
        if (word == key)
            for (int64_t i = 0; i < take; i++)
                found[i] |= (uint64_t)(keys[count + i] << 8 | keys[i]);
        if (word == summed)
            for (int64_t i = 1; i < take; i++)
                found[i] += found[i - 1];
    }
    free(places), free(stored);
    return 0;
}

/* How many of some ascending times, from low to high, are at or before a moment; looked for near a guess. */
static int64_t until(const int64_t *times, int64_t low, int64_t high, int64_t guess, int64_t moment)
{
    int64_t step = 1;
    if (guess < high && times[guess] <= moment) {
        for (low = guess + 1; low + step <= high && times[low + step - 1] <= moment; step *= 2)
            low += step;
        if (low + step <= high)
            high = low + step - 1;
    } else {
        for (high = guess; high - step >= low && times[high - step] > moment; step *= 2)
            high -= step;
        if (high - step >= low)
            low = high - step + 1;
    }
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (times[middle] <= moment)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int64_t last_at(const int64_t *starts, int64_t things, const int64_t *times, const int64_t *which,
                const int64_t *moments, int64_t n, int64_t before, int64_t *found)
{
    int64_t *guesses = malloc((size_t)(things + 1) * sizeof *guesses);
    if (!guesses)
        return OUT_OF_MEMORY;
    memcpy(guesses, starts, (size_t)things * sizeof *guesses);
    for (int64_t i = 0; i < n; i++) {
        int64_t thing = which[i], moment = moments[i];
        found[i] = -1;
        if (thing < 0 || (before && moment == INT64_MIN))
            continue;
        int64_t end = until(times, starts[thing], starts[thing + 1], guesses[thing], moment - (before != 0));
        guesses[thing] = end;
        if (end > starts[thing])
            found[i] = end - 1;
    }
    free(guesses);
    return 0;
}

/* A record of process.fd_records.CHANGE. */
struct change {
    int64_t seq, t0, t1, since, head;
    uint64_t holder;
    int32_t fd, src, text;
    uint8_t join, cloexec, by;
};

int64_t size_of_change(void)
{
    return sizeof(struct change);
}

/* What process.fd_index.ChangeIndex keeps of a change, in its order. */
struct indexed {
    int64_t t1, seq, node, change, under_way, next_call;
    int64_t is_unclear;
};

void index_changes(const struct change *changes, const int64_t *nodes, const int64_t *order, const int64_t *starts,
                   int64_t things, const int64_t *unsure, struct indexed *index, int64_t *times)
{
    int64_t count = starts[things], next = count;
    for (int64_t thing = things - 1; thing >= 0; thing--) {
        int64_t earliest = NEVER;
        for (int64_t i = starts[thing + 1] - 1; i >= starts[thing]; i--) {
            const struct change *change = changes + order[i];
            earliest = change->since < earliest ? change->since : earliest;
            next = change->by ? next : i;
            index[i] = (struct indexed){
                .t1 = change->t1, .seq = change->seq, .node = nodes[order[i]], .change = order[i],
                .under_way = earliest, .next_call = next,
            };
            times[i] = change->t1;
        }
    }
    for (int64_t thing = 0; thing < things; thing++) {
        int64_t before = -1; /* the last one by a call */
        for (int64_t i = starts[thing]; i < starts[thing + 1]; i++) {
            const struct change *change = changes + order[i];
            if (change->by)
                continue;
            index[i].is_unclear = (before >= 0 && index[before].t1 > change->t0) || change->t0 < unsure[index[i].node];
            before = i;
        }
    }
}

/* What process.fd_index.ChangeIndex knows of a node. */
struct node {
    int64_t group, since, unsure, end, ender, is_tainted;
};

int64_t last_changes(const struct indexed *index, const int64_t *times, const int64_t *starts, int64_t things,
                     const struct node *nodes, const int64_t *which, const int64_t *node, const int64_t *t0,
                     const int64_t *t1, const int64_t *seq, int64_t n, uint8_t *sure, int64_t *found)
{
    int64_t *guesses = malloc((size_t)(things + 1) * sizeof *guesses), count = starts[things];
    if (!guesses)
        return OUT_OF_MEMORY;
    memcpy(guesses, starts, (size_t)things * sizeof *guesses);
    for (int64_t i = 0; i < n; i++) {
        found[i] = -1;
        sure[i] = 0;
        if (node[i] < 0)
            continue;
        const struct node *mine = nodes + node[i];
        sure[i] = !mine->is_tainted && t0[i] >= mine->unsure && (t1[i] <= mine->end || seq[i] == mine->ender);
        if (which[i] < 0)
            continue;
        int64_t first = starts[which[i]], stop = starts[which[i] + 1];
        int64_t after = until(times, first, stop, guesses[which[i]], t0[i] < NEVER ? t0[i] : NEVER - 1);
        guesses[which[i]] = after;
        int64_t other = after < count ? index[after].next_call : count;
        other += other < stop && index[other].seq == seq[i];
        int clear = other >= stop || index[other].under_way >= t1[i];
        if (after > first) {
            const struct indexed *last = index + after - 1;
            int is_same = last->node == node[i];
            if (is_same || last->t1 > mine->since) {
                found[i] = last->change;
                clear = clear && is_same && !last->is_unclear;
            }
        }
        sure[i] = sure[i] && clear;
    }
    free(guesses);
    return 0;
}

static int digits_of(uint64_t value)
{
    int digits = 1;
    while (value >>= 4)
        digits++;
    return digits;
}

static const char NULL_TEXT[6] = {'[', 'N', 'U', 'L', 'L', ']'};

int64_t size_texts(int64_t n, const uint64_t *values, const uint32_t *prefixes,
                   const uint8_t *nulls, const uint32_t *suffixes, const int64_t *prefix_offsets,
                   const int64_t *suffix_offsets, int64_t *offsets)
{
    int64_t size = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t prefix = prefixes[i], suffix = suffixes[i];
        offsets[i] = size;
        size += prefix_offsets[prefix + 1] - prefix_offsets[prefix];
        if (nulls[i])
            size += sizeof NULL_TEXT;
        else
            size += 2 + digits_of(values[i]) + suffix_offsets[suffix + 1] - suffix_offsets[suffix];
    }
    offsets[n] = size;
    return size;
}

void write_texts(int64_t n, const uint64_t *values, const uint32_t *prefixes,
                 const uint8_t *nulls, const uint32_t *suffixes, const int64_t *prefix_offsets,
                 const uint8_t *prefix_bytes, const int64_t *suffix_offsets, const uint8_t *suffix_bytes, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t prefix = prefixes[i], suffix = suffixes[i];
        size_t length = (size_t)(prefix_offsets[prefix + 1] - prefix_offsets[prefix]);
        memcpy(out, prefix_bytes + prefix_offsets[prefix], length);
        out += length;
        if (nulls[i]) {
            memcpy(out, NULL_TEXT, sizeof NULL_TEXT);
            out += sizeof NULL_TEXT;
            continue;
        }
        uint64_t value = values[i];
        int digits = digits_of(value);
        *out++ = '0';
        *out++ = 'x';
        for (int digit = digits - 1; digit >= 0; digit--, value >>= 4)
            out[digit] = (uint8_t) "0123456789abcdef"[value & 15];
        out += digits;
        length = (size_t)(suffix_offsets[suffix + 1] - suffix_offsets[suffix]);
        memcpy(out, suffix_bytes + suffix_offsets[suffix], length);
        out += length;
    }
}

void enclose(int64_t n, const int64_t *starts, const int64_t *ends, const uint8_t *data, const uint8_t *before,
             int64_t size, const uint32_t *after, const int64_t *after_offsets, const uint8_t *after_data, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        memcpy(out, before, (size_t)size);
        out += size;
        memcpy(out, data + starts[i], (size_t)(ends[i] - starts[i]));
        out += ends[i] - starts[i];
        int64_t length = after_offsets[after[i] + 1] - after_offsets[after[i]];
        memcpy(out, after_data + after_offsets[after[i]], (size_t)length);
        out += length;
    }
}

void take_texts(int64_t n, const int64_t *which, const int64_t *offsets, const uint8_t *data, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t length = offsets[which[i] + 1] - offsets[which[i]];
        memcpy(out, data + offsets[which[i]], (size_t)length);
        out += length;
    }
}
