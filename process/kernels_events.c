/* Events out of blocks, and what was last before them. kernels.py says what each function takes and gives. */
#include "hashing.h"
#include "kernels.h"

#define NEVER INT64_MAX

enum { RETURNED = 1, TASK_IS_ASID = 8 }; /* capture.segment.EventFlag */

int64_t places_of(const uint16_t *keys, int64_t count, uint32_t *places)
{
    uint16_t most = 0;
    for (int64_t i = 0; i < count; i++)
        most = keys[i] > most ? keys[i] : most;
    uint32_t *starts = calloc((size_t)most + 1, sizeof *starts), before = 0;
    if (!starts)
        return OUT_OF_MEMORY;
    for (int64_t i = 0; i < count; i++)
        starts[keys[i]]++;
    for (int64_t key = 0; key <= most; key++) {
        uint32_t of_key = starts[key];
        starts[key] = before;
        before += of_key;
    }
    for (int64_t i = 0; i < count; i++)
        places[i] = starts[keys[i]]++;
    free(starts);
    return 0;
}

/* The words that planes are of: a byte of each in a plane, the lowest first, and the next plane so many bytes behind.
 * Compilers make shuffles of it. */
static void interlace(const uint8_t *restrict planes, int64_t next, int64_t count, uint64_t *restrict words)
{
    static const uint16_t one = 1;
    const uint8_t *first = planes;
    if (!*(const uint8_t *)&one) { /* big-endian */
        first = planes + 7 * next;
        next = -next;
    }
    const uint8_t *restrict a = first, *restrict b = a + next, *restrict c = b + next, *restrict d = c + next;
    const uint8_t *restrict e = d + next, *restrict f = e + next, *restrict g = f + next, *restrict h = g + next;
    uint8_t *restrict out = (uint8_t *)words;
    for (int64_t i = 0; i < count; i++) {
        out[8 * i] = a[i];
        out[8 * i + 1] = b[i];
        out[8 * i + 2] = c[i];
        out[8 * i + 3] = d[i];
        out[8 * i + 4] = e[i];
        out[8 * i + 5] = f[i];
        out[8 * i + 6] = g[i];
        out[8 * i + 7] = h[i];
    }
}

/* Whether all records have the same word, and which. */
static int is_same(const uint8_t *planes, int64_t count, uint64_t *same)
{
    *same = 0;
    for (int64_t byte = 0; byte < 8; byte++) {
        const uint8_t *plane = planes + byte * count;
        if (count && memcmp(plane, plane + 1, (size_t)count - 1))
            return 0;
        *same |= count ? (uint64_t)plane[0] << 8 * byte : 0;
    }
    return 1;
}

/* The word of one record. */
static uint64_t word_at(const uint8_t *planes, int64_t count, int64_t record)
{
    uint64_t word = 0;
    for (int64_t byte = 0; byte < 8; byte++)
        word |= (uint64_t)planes[byte * count + record] << 8 * byte;
    return word;
}

static const uint64_t LOW = 0xffffffff;

int64_t unplane(const uint8_t *payload, int64_t count, const uint32_t *places, const int64_t *rows, int64_t take,
                int64_t key, int64_t summed, uint64_t wanted, uint64_t *out, int64_t stride)
{
    uint64_t *stored = malloc((size_t)(count + 1) * sizeof *stored), same;
    if (!stored)
        return OUT_OF_MEMORY;
    for (int64_t word = 0; word < 64; word++) {
        if (!(wanted >> word & 1))
            continue;
        uint64_t *found = out + word * stride;
        const uint8_t *planes = payload + 8 * word * count;
        if (word != summed && is_same(planes, count, &same)) {
            for (int64_t i = 0; i < take; i++)
                found[i] = same;
            continue;
        }
        if (word != summed && rows && take < count / 16) {
            for (int64_t i = 0; i < take; i++) {
                found[i] = word_at(planes, count, places[rows[i]]);
                if (word == key)
                    found[i] = (found[i] & ~LOW) | (word_at(planes, count, rows[i]) & LOW);
            }
            continue;
        }
        interlace(planes, count, count, stored);
        if (word == summed) {
            uint64_t sum = 0;
            for (int64_t i = 0, next = 0; next < take; i++) {
                sum += stored[places[i]];
                if (!rows || rows[next] == i)
                    found[next++] = sum;
            }
        } else if (rows) {
            for (int64_t i = 0; i < take; i++)
                found[i] = stored[places[rows[i]]];
        } else {
            for (int64_t i = 0; i < take; i++)
                found[i] = stored[places[i]];
        }
        for (int64_t i = 0; word == key && i < take; i++)
            found[i] = (found[i] & ~LOW) | (stored[rows ? rows[i] : i] & LOW);
    }
    free(stored);
    return 0;
}

void words_at(const uint8_t *payload, int64_t count, const int64_t *rows, const int64_t *places, int64_t start,
              int64_t take, int64_t key, uint64_t wanted, uint64_t *out, int64_t stride)
{
    for (int64_t word = 0; wanted >> word; word++) {
        const uint8_t *planes = payload + 8 * word * count;
        uint64_t *found = out + word * stride;
        if (!(wanted >> word & 1))
            continue;
        if (!places)
            interlace(planes + start, count, take, found);
        for (int64_t i = 0; places && i < take; i++)
            found[i] = word_at(planes, count, places[i]);
        for (int64_t i = 0; word == key && i < take; i++)
            found[i] = (found[i] & ~LOW) | (word_at(planes, count, rows[i]) & LOW);
    }
}

int64_t unplane_all(const uint8_t *payloads, const int64_t *counts, int64_t blocks, int64_t width, int64_t key,
                    int64_t summed, uint64_t *out, int64_t stride)
{
    int64_t most = 0;
    for (int64_t block = 0; block < blocks; block++)
        most = counts[block] > most ? counts[block] : most;
    uint16_t *keys = malloc((size_t)(most + 1) * sizeof *keys);
    uint32_t *places = malloc((size_t)(most + 1) * sizeof *places);
    int64_t done = keys && places ? 0 : OUT_OF_MEMORY;
    for (int64_t block = 0; !done && block < blocks; block++) {
        int64_t count = counts[block];
        const uint8_t *planes = payloads + (key < 0 ? 0 : 8 * key * count);
        for (int64_t word = 0; key < 0 && word < width; word++)
            interlace(payloads + 8 * word * count, count, count, out + word * stride);
        for (int64_t i = 0; key >= 0 && i < count; i++) {
            keys[i] = (uint16_t)(planes[i] | planes[count + i] << 8);
            done = planes[2 * count + i] | planes[3 * count + i] ? UNSUITED : done;
        }
        if (key >= 0 && !done)
            done = places_of(keys, count, places);
        if (key >= 0 && !done)
            done = unplane(payloads, count, places, NULL, count, key, summed, ((uint64_t)1 << width) - 1, out, stride);
        payloads += 8 * width * count;
        out += count;
    }
    free(keys), free(places);
    return done;
}

int64_t span_of(const uint64_t *times, const uint64_t *durations, const uint64_t *flags, int64_t n, uint64_t *entries)
{
    uint64_t earliest = UINT64_MAX, latest = 0;
    int64_t returned = INT64_MIN;
    for (int64_t i = 0; i < n; i++) {
        earliest = times[i] < earliest ? times[i] : earliest;
        latest = times[i] > latest ? times[i] : latest;
        uint64_t lasted = flags[i] & RETURNED && durations[i] <= INT64_MAX ? durations[i] : 0;
        int64_t back = (int64_t)(times[i] + lasted);
        returned = back > returned ? back : returned;
    }
    entries[0] = earliest;
    entries[1] = latest;
    return returned;
}

int64_t fresh_in(const uint64_t *values, int64_t n, int64_t bits, uint64_t *table, uint64_t *fresh)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = spread(values[i], bits);
        fresh[count] = values[i];
        count += table[at] != values[i];
        table[at] = values[i];
    }
    return count;
}

int64_t note_times(const uint64_t *tasks, const int64_t *times, int64_t n, int64_t bits, int64_t tries, uint64_t *known,
                   int64_t *first, int64_t *last, int64_t *missed)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t task = tasks[i], at = spread(task, bits), end = at + (uint64_t)tries;
        while (at < end && known[at] != task && known[at] != UINT64_MAX)
            at++;
        if (at == end || task == UINT64_MAX) {
            missed[count++] = i;
            continue;
        }
        known[at] = task;
        first[at] = times[i] < first[at] ? times[i] : first[at];
        last[at] = times[i] > last[at] ? times[i] : last[at];
    }
    return count;
}

int64_t asked_by(const int64_t *rows, int64_t n, const uint64_t *times, const uint64_t *durations,
                 const uint64_t *flags, const int64_t *sequences, const int64_t *which, int64_t *t0, int64_t *t1,
                 int64_t *seq, int64_t *who, int64_t *endless)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = rows[i];
        uint64_t lasted = durations[row];
        int is_known = lasted <= INT64_MAX, is_timed = is_known || !(flags[row] & RETURNED);
        t0[i] = (int64_t)times[row];
        t1[i] = (int64_t)(times[row] + (is_known ? lasted : 0));
        seq[i] = sequences[row];
        who[i] = is_timed && !(flags[row] & TASK_IS_ASID) ? which[row] : -1;
        endless[count] = i;
        count += !is_known;
    }
    return count;
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

int64_t stored_word(const uint8_t *planes, int64_t count, uint64_t *found)
{
    uint64_t same;
    if (is_same(planes, count, &same)) {
        for (int64_t i = 0; i < count; i++)
            found[i] = same;
        return 1;
    }
    interlace(planes, count, count, found);
    return 0;
}

enum { NUMBERS = 1 << 13 };

int64_t by_number(const uint64_t *numbers, const uint64_t *flags, int64_t n, int64_t *distinct, int64_t *counts,
                  int64_t *codes, int64_t *order)
{
    uint16_t code_of[NUMBERS] = {0};
    int64_t count = 0, before = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t number = numbers[i] & LOW;
        if (number >= NUMBERS || flags[i] >> 16 & 0xff)
            return UNSUITED;
        if (!code_of[number]) {
            distinct[count] = (int64_t)number;
            counts[count++] = 0;
            code_of[number] = (uint16_t)count;
        }
        codes[i] = code_of[number] - 1;
        counts[codes[i]]++;
    }
    int64_t starts[NUMBERS];
    for (int64_t code = 0; code < count; code++) {
        starts[code] = before;
        before += counts[code];
    }
    for (int64_t i = 0; i < n; i++)
        order[starts[codes[i]]++] = i;
    return count;
}

int64_t results_of(int64_t n, const uint64_t *flags, const uint8_t *failed, const int64_t *inverse, int64_t distinct,
                   const int64_t *call_of, const int64_t *errnos, const int64_t *abi_of, const uint8_t *may_end,
                   int32_t *errno_codes, int32_t *repr_codes, int8_t *statuses)
{
    int64_t errors = 0;
    for (int64_t i = 0; i < n; i++) {
        int is_back = flags[i] & RETURNED;
        int64_t code = is_back && failed[i] ? errnos[abi_of[call_of[i]] * distinct + inverse[i]] : -1;
        errors += code >= 0;
        errno_codes[i] = (int32_t)code;
        repr_codes[i] = (int32_t)(!is_back ? -1 : code >= 0 ? distinct + code : inverse[i]);
        statuses[i] = is_back ? 0 : may_end[call_of[i]] ? 1 : 2;
    }
    return errors;
}

void count_rows(int64_t n, const int64_t *keys, const uint8_t *failed, int64_t *events, int64_t *errors,
                int64_t *firsts)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t key = keys[i];
        if (!events[key]++)
            firsts[key] = i;
        errors[key] += failed[i];
    }
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

void put_changes(int64_t n, const int64_t *which, const int64_t *rows, const int64_t *sequences, const int64_t *t0,
                 const int64_t *t1, const uint64_t *holders, const uint8_t *pending, const int64_t *fds,
                 const int64_t *sources, const int64_t *texts, const int64_t *joins, const int64_t *cloexecs,
                 int64_t arrays, struct change *made)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = which[i], row = rows[at];
        struct change *change = made + i;
        change->seq = change->head = sequences[row];
        change->t0 = change->since = t0[row];
        change->t1 = pending[at] ? NEVER : t1[row];
        change->holder = holders[at];
        change->fd = (int32_t)fds[at];
        change->src = (int32_t)sources[arrays & 1 ? at : 0];
        change->text = (int32_t)texts[arrays & 2 ? at : 0];
        change->join = (uint8_t)joins[arrays & 4 ? at : 0];
        change->cloexec = (uint8_t)cloexecs[arrays & 8 ? at : 0];
    }
}

/* What process.fd_index.ChangeIndex keeps of a change, in its order, beside its time. */
struct indexed {
    int64_t seq, under_way;
    int32_t node, change, next_call, is_unclear;
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
                .seq = change->seq, .under_way = earliest, .node = (int32_t)nodes[order[i]],
                .change = (int32_t)order[i], .next_call = (int32_t)next,
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
            index[i].is_unclear = (before >= 0 && times[before] > change->t0) || change->t0 < unsure[index[i].node];
            before = i;
        }
    }
}

enum { AHEAD = 16 }; /* questions for which what will be read is already asked for */

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
        if (i + AHEAD < n && which[i + AHEAD] >= 0) {
            int64_t guess = guesses[which[i + AHEAD]];
            SOON(times + guess);
            SOON(index + guess - (guess > 0));
            SOON(index + guess);
        }
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
            if (is_same || times[after - 1] > mine->since) {
                found[i] = last->change;
                clear = clear && is_same && !last->is_unclear;
            }
        }
        sure[i] = sure[i] && clear;
    }
    free(guesses);
    return 0;
}
