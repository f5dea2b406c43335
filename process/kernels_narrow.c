/* Columns of integers in as few bytes as each needs. The module of the same name says what each function takes and gives. */
#include "kernels.h"

/* Rows that all columns are done of at a time: they stay in the cache. */
enum { BLOCK = 256 };

/* What stands for the two numbers that mean no time; differences follow. */
enum { LEAST, GREATEST, OTHERS };

struct column {
    char *at;
    int64_t step;      /* bytes from one value to the next */
    int64_t size;      /* bytes of a value, below zero if it has a sign */
    int64_t reference; /* the column of which only the difference is stored, an earlier one; -1 for none */
};

#define EACH(statement)                                                                                                \
    for (int64_t k = 0; k < n; k++, at += step)                                                                        \
    statement

static void get(const struct column *column, int64_t first, int64_t n, int64_t *restrict values)
{
    int64_t step = column->step;
    const char *at = column->at + first * step;
    int32_t half;
    switch (column->size) {
    case 8:
    case -8: EACH(memcpy(values + k, at, 8)); break;
    case -4: EACH((memcpy(&half, at, 4), values[k] = half)); break;
    case 4: EACH((memcpy(&half, at, 4), values[k] = (uint32_t)half)); break;
    case -1: EACH(values[k] = *(const signed char *)at); break;
    default: EACH(values[k] = *(const unsigned char *)at);
    }
}

static void put(const struct column *column, int64_t first, int64_t n, const int64_t *restrict values)
{
    int64_t step = column->step;
    char *at = column->at + first * step;
    int32_t half;
    switch (column->size) {
    case 8:
    case -8: EACH(memcpy(at, values + k, 8)); break;
    case 4:
    case -4: EACH((half = (int32_t)values[k], memcpy(at, &half, 4))); break;
    default: EACH(*at = (char)values[k]);
    }
}

/* What a column's values of a block are counted from. */
static void get_references(const struct column *columns, int64_t reference, int64_t first, int64_t n,
                           int64_t *restrict values)
{
    if (reference < 0)
        memset(values, 0, (size_t)n * 8);
    else
        get(columns + reference, first, n, values);
}

void spans(const struct column *columns, int64_t count, int64_t rows, int64_t every, int64_t *lowest, int64_t *highest,
           int64_t *odd)
{
    int64_t values[BLOCK], from[BLOCK];
    for (int64_t c = 0; c < count; c++) {
        lowest[c] = INT64_MAX;
        highest[c] = INT64_MIN;
        odd[c] = 0;
    }
    for (int64_t first = 0; first < rows; first += every * BLOCK) {
        int64_t n = rows - first < BLOCK ? rows - first : BLOCK;
        for (int64_t c = 0; c < count; c++) {
            int64_t low = lowest[c], high = highest[c], none = 0;
            get(columns + c, first, n, values);
            get_references(columns, columns[c].reference, first, n, from);
            for (int64_t k = 0; k < n; k++) {
                int64_t one = (int64_t)((uint64_t)values[k] - (uint64_t)from[k]);
                int is_odd = (values[k] == INT64_MIN) | (values[k] == INT64_MAX);
                int64_t least = is_odd ? INT64_MAX : one, most = is_odd ? INT64_MIN : one;
                none += is_odd;
                low = least < low ? least : low;
                high = most > high ? most : high;
            }
            lowest[c] = low;
            highest[c] = high;
            odd[c] += none;
        }
    }
}

#define CODES(type)                                                                                                    \
    for (int64_t k = 0; k < n; k++)                                                                                    \
    ((type *)codes)[k] = (type)from[k]

/* The codes of a block's values, given what they are counted from, which these take the place of; whether all fit. */
static int encode(const int64_t *restrict values, int64_t *restrict from, int64_t n, int64_t base, int64_t width)
{
    uint64_t most = width ? (UINT64_C(1) << 8 * width) - OTHERS - 1 : 0;
    int is_beyond = 0, has_odd = 0;
    for (int64_t k = 0; k < n; k++) {
        uint64_t above = (uint64_t)values[k] - (uint64_t)from[k] - (uint64_t)base;
        int is_least = values[k] == INT64_MIN, is_greatest = values[k] == INT64_MAX;
        has_odd |= is_least | is_greatest;
        is_beyond |= (above > most) & !(is_least | is_greatest);
        above = is_greatest ? GREATEST : above + OTHERS;
        from[k] = (int64_t)(is_least ? LEAST : above);
    }
    return !is_beyond && !(has_odd && width == 0);
}

/* The same of values of less than 8 bytes, which cannot be odd, and are counted from nothing. */
static int encode_small(const int64_t *restrict values, int64_t *restrict codes, int64_t n, int64_t base, int64_t width)
{
    uint64_t bits = 0;
    for (int64_t k = 0; k < n; k++) {
        uint64_t above = (uint64_t)values[k] - (uint64_t)base, code = above + OTHERS;
        bits |= width ? above | code : above;
        codes[k] = (int64_t)code;
    }
    return bits >> 8 * width == 0;
}

static int is_small(const struct column *column)
{
    return column->size > -8 && column->size < 8 && column->reference < 0;
}

int64_t narrow(const struct column *columns, int64_t count, int64_t rows, const int64_t *bases, const int64_t *widths,
               const int64_t *places, unsigned char *data)
{
    int64_t values[BLOCK], from[BLOCK];
    for (int64_t first = 0; first < rows; first += BLOCK) {
        int64_t n = rows - first < BLOCK ? rows - first : BLOCK;
        for (int64_t c = 0; c < count; c++) {
            unsigned char *codes = data + places[c] + first * widths[c];
            int fits;
            get(columns + c, first, n, values);
            if (widths[c] == 8) {
                memcpy(codes, values, (size_t)n * 8);
                continue;
            }
            if (is_small(columns + c)) {
                fits = encode_small(values, from, n, bases[c], widths[c]);
            } else {
                get_references(columns, columns[c].reference, first, n, from);
                fits = encode(values, from, n, bases[c], widths[c]);
            }
            if (!fits)
                return UNSUITED;
            if (widths[c] == 1) {
                CODES(uint8_t);
            } else if (widths[c] == 2) {
                CODES(uint16_t);
            } else if (widths[c] == 4) {
                CODES(uint32_t);
            }
        }
    }
    return 0;
}

#define VALUES(type)                                                                                                   \
    for (int64_t k = 0; k < n; k++)                                                                                    \
    values[k] = ((const type *)codes)[k]

void widen(const struct column *columns, int64_t count, int64_t rows, const int64_t *bases, const int64_t *widths,
           const int64_t *places, const unsigned char *data)
{
    int64_t values[BLOCK], from[BLOCK];
    for (int64_t first = 0; first < rows; first += BLOCK) {
        int64_t n = rows - first < BLOCK ? rows - first : BLOCK;
        for (int64_t c = 0; c < count; c++) {
            const unsigned char *codes = data + places[c] + first * widths[c];
            if (widths[c] == 8) {
                memcpy(values, codes, (size_t)n * 8);
                put(columns + c, first, n, values);
                continue;
            }
            switch (widths[c]) {
            case 0:
                for (int64_t k = 0; k < n; k++)
                    values[k] = OTHERS;
                break;
            case 1: VALUES(uint8_t); break;
            case 2: VALUES(uint16_t); break;
            default: VALUES(uint32_t);
            }
            if (is_small(columns + c)) {
                for (int64_t k = 0; k < n; k++)
                    values[k] = (int64_t)((uint64_t)values[k] - OTHERS + (uint64_t)bases[c]);
                put(columns + c, first, n, values);
                continue;
            }
            get_references(columns, columns[c].reference, first, n, from);
            for (int64_t k = 0; k < n; k++) {
                int64_t known = values[k] == LEAST ? INT64_MIN : INT64_MAX;
                int64_t other = (int64_t)((uint64_t)values[k] - OTHERS + (uint64_t)bases[c] + (uint64_t)from[k]);
                values[k] = values[k] < OTHERS ? known : other;
            }
            put(columns + c, first, n, values);
        }
    }
}
