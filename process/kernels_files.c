/* Rows of the table fd out of steps of descriptors. The module of the same name says what each function takes and gives. */
#include "kernels.h"

#define NEVER INT64_MAX

/* Codes of names (process.fd_records), and what is told of steps and of the ends of rows (process.fd_steps). */
enum { UNKNOWN = -1, CLOSED = -2 };
enum { UNSURE = 2 };
enum { DUP = 1, SEEN = 9 };
enum { CLOSE = 0, REPLACED = 1, LOST = 5 };

/* process.fd_steps.Steps. */
struct steps {
    const int32_t *group, *fd;
    const int64_t *time, *began, *seq;
    const uint8_t *is_birth;
    const int32_t *node;
    const int64_t *pid;
    const int32_t *name;
    const int8_t *cloexec, *source, *how;
    const uint8_t *begins, *told, *is_open;
};

/* A record of process.fd_rows.ROW. */
struct row {
    int64_t seq, time, pid, end_seq, end_time;
    int32_t fd, group, program, name;
    uint8_t source, cloexec;
    int8_t how, ended;
};

int64_t size_of_row(void)
{
    return sizeof(struct row);
}

/* Of a step: it is of the descriptor of the one before; its row is that one's; a row begins with it. */
enum { SAME = 1, IS_OPEN = 2, GOES_ON = 4, HEAD = 8 };

int64_t mark_steps(const struct steps *steps, int64_t n, const uint8_t *wanted, uint8_t *marks)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t before = i ? i - 1 : 0;
        int same = i && steps->group[i] == steps->group[before] && steps->fd[i] == steps->fd[before];
        int is_named = steps->name[i] == steps->name[before] || steps->told[i] ||
                       !(steps->begins[i] || steps->is_birth[i]);
        int follows = same && steps->is_open[before] && !steps->begins[i] && is_named &&
                      (steps->node[i] == steps->node[before] || steps->is_birth[i]);
        int stays = follows && steps->name[i] == UNKNOWN && steps->name[before] == UNKNOWN && !steps->is_birth[i] &&
                    steps->cloexec[i] != UNSURE; /* what it was, without a name */
        int is_open = steps->is_open[i] || stays;
        int is_head = is_open && !follows && (!wanted || wanted[i]);
        marks[i] = (uint8_t)(same * SAME | is_open * IS_OPEN | (follows && is_open) * GOES_ON | is_head * HEAD);
        rows += is_head;
    }
    return rows;
}

/* The step behind a row, and what began there. */
struct behind {
    int64_t at, earliest, earliest_after;
    int same, same_after;
};

static struct row row_of(const struct steps *steps, const uint8_t *marks, int64_t n, int64_t head,
                         const struct behind *behind, const int64_t *end, const int64_t *ended, const int64_t *end_seq)
{
    int64_t at = behind->at, last = at - 1, group = steps->group[last];
    int within = at < n && behind->same && steps->time[at] <= end[group];
    int64_t seq = within ? steps->seq[at] : end_seq[group], time = within ? steps->time[at] : end[group];
    int64_t how = within ? LOST : ended[group];
    if (within && (steps->node[at] == steps->node[last] || steps->is_birth[at])) {
        if (steps->name[at] == CLOSED && !steps->told[at] && steps->how[at] != SEEN)
            how = CLOSE;
        else if (marks[at] & IS_OPEN && steps->begins[at] && steps->how[at] == DUP)
            how = REPLACED;
    }
    /* Calls that began before the end may have been the end. */
    if (within ? behind->same_after && behind->earliest_after < time : behind->same && behind->earliest < time)
        how = LOST;
    return (struct row){
        .seq = steps->seq[head], .time = steps->time[head], .pid = steps->pid[head],
        .end_seq = how == LOST ? -1 : seq, .end_time = how == LOST ? NEVER : time, .fd = steps->fd[head],
        .group = steps->group[head], .program = -1, .name = steps->name[last] < 0 ? -1 : steps->name[last],
        .source = (uint8_t)steps->source[last], .cloexec = (uint8_t)steps->cloexec[last], .how = steps->how[head],
        .ended = (int8_t)how,
    };
}

void rows_of_steps(const struct steps *steps, int64_t n, const uint8_t *marks, const int64_t *end,
                   const int64_t *ended, const int64_t *end_seq, int64_t rows, struct row *found)
{
    struct behind behind = {.at = n};
    int64_t earliest = NEVER; /* that a change of the same descriptor began, from the next step on */
    for (int64_t i = n - 1; i >= 0; i--) {
        int same_after = i + 1 < n && marks[i + 1] & SAME;
        int64_t after = earliest;
        earliest = same_after && after < steps->began[i] ? after : steps->began[i];
        if (marks[i] & HEAD)
            found[--rows] = row_of(steps, marks, n, i, &behind, end, ended, end_seq);
        if (!(marks[i] & GOES_ON))
            behind = (struct behind){
                .at = i, .earliest = earliest, .earliest_after = after, .same = marks[i] & SAME,
                .same_after = same_after,
            };
    }
}
