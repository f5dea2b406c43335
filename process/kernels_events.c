/* Events out of blocks, and what was last before them. kernels.py says what each function takes and gives. */
#include "kernels.h"

#define NEVER INT64_MAX

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

/* Put a byte of each record into words; the first byte of a word that is put there clears it. */
static void put_plane(const uint8_t *plane, int64_t count, int64_t byte, int is_first, uint64_t *words)
{
    if (is_first)
        for (int64_t i = 0; i < count; i++)
            words[i] = (uint64_t)plane[i] << 8 * byte;
    else
        for (int64_t i = 0; i < count; i++)
            words[i] |= (uint64_t)plane[i] << 8 * byte;
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
            put_plane(plane, count, byte, !filled++, stored);
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

int64_t unplane_all(const uint8_t *payloads, const int64_t *counts, int64_t blocks, int64_t width, int64_t key,
                    int64_t summed, uint64_t *out, int64_t stride)
{
    for (int64_t block = 0; block < blocks; block++) {
        int64_t count = counts[block], done = 0;
        if (key >= 0)
            done = unplane(payloads, count, count, key, summed, ((uint64_t)1 << width) - 1, out, stride);
        for (int64_t word = 0; key < 0 && word < width; word++) {
            const uint8_t *planes = payloads + 8 * word * count;
            put_plane(planes, count, 0, 1, out + word * stride);
            for (int byte = 1; byte < 8; byte++)
                if (!is_zero(planes + byte * count, count))
                    put_plane(planes + byte * count, count, byte, 0, out + word * stride);
        }
        if (done)
            return done;
        payloads += 8 * width * count;
        out += count;
    }
    return 0;
}

int64_t rows_of(const uint16_t *numbers, int64_t n, int64_t size, const uint8_t *known, const uint8_t *wanted,
                int64_t *rows)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (numbers[i] >= size || !known[numbers[i]])
            return UNSUITED;
        rows[count] = i;
        count += wanted[numbers[i]];
    }
    return count;
}

int64_t stored_word(const uint8_t *planes, int64_t count, int64_t low, uint64_t *found)
{
    uint64_t same = 0;
    int filled = 0, is_same = 1;
    for (int64_t byte = low; byte < 8; byte++) {
        const uint8_t *plane = planes + byte * count;
        if (!count || !memcmp(plane, plane + 1, (size_t)count - 1)) {
            same |= count ? (uint64_t)plane[0] << 8 * byte : 0;
            continue;
        }
        is_same = 0;
        put_plane(plane, count, byte, !filled++, found);
    }
    if (same || !filled)
        for (int64_t i = 0; i < count; i++)
            found[i] = filled ? found[i] | same : same;
    return is_same;
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
