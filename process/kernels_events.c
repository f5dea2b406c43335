/* What is told by many events. The module of the same name says what each function takes and gives. */
#include "hashing.h"
#include "kernels.h"

enum { RETURNED = 1, TASK_IS_ASID = 8 }; /* capture.segment.EventFlag */

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

enum { NUMBERS = 1 << 13 };

int64_t by_number(const uint64_t *numbers, const uint64_t *flags, int64_t n, int64_t *distinct, int64_t *counts,
                  int64_t *codes, int64_t *order)
{
    uint16_t code_of[NUMBERS] = {0};
    int64_t count = 0, before = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t number = (uint32_t)numbers[i];
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
