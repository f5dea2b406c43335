/* What was last before a moment; changes of descriptors. The module of the same name says what each function takes and gives. */
#include "kernels.h"

#define NEVER INT64_MAX

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
