/* Rows as the leaves of a table in an SQLite database. sqlite_leaves.py says what is taken and given.
 *
 * The format is that of https://www.sqlite.org/fileformat2.html; its sections are named where a fact is used. The rules
 * of kernels.h hold.
 */
#include <stdint.h>
#include <string.h>

enum { LEAF = 13, HEADER = 8, POINTER = 2, MOST = 64 };

/* Integers, if there are no offsets; else texts: for each row which one, a negative one is null. */
struct column {
    const int64_t *values;
    const uint8_t *valid; /* of integers; NULL if all are */
    const int32_t *codes;
    const int64_t *offsets;
    const uint8_t *data;
};

int64_t size_of_column(void)
{
    return sizeof(struct column);
}

static int length_of(uint64_t value)
{
    int length = 1;
    while (value >>= 7)
        length++;
    return length;
}

/* A varint (1.6) of less than 57 bits. */
static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    int length = length_of(value);
    for (int k = length - 1; k >= 0; k--, value >>= 7)
        at[k] = (uint8_t)(value & 0x7f) | (k < length - 1 ? 0x80 : 0);
    return at + length;
}

static void put_number(uint8_t *at, uint64_t value, int64_t bytes)
{
    while (bytes--) {
        at[bytes] = (uint8_t)value;
        value >>= 8;
    }
}

/* The serial type of an integer, and its bytes (2.1). */
static uint64_t type_of(int64_t value, int64_t *bytes)
{
    static const struct {
        uint8_t bits, type, bytes;
    } kinds[] = {{7, 1, 1}, {15, 2, 2}, {23, 3, 3}, {31, 4, 4}, {47, 5, 6}};
    if (value == 0 || value == 1) {
        *bytes = 0;
        return 8 + (uint64_t)value;
    }
    uint64_t size = (uint64_t)(value < 0 ? ~value : value);
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (!(size >> kinds[k].bits)) {
            *bytes = kinds[k].bytes;
            return kinds[k].type;
        }
    *bytes = 8;
    return 6;
}

/* The header of a leaf, when all of its cells are there (1.6). */
static void finish(uint8_t *page, int64_t cells, int64_t top)
{
    page[0] = LEAF;
    put_number(page + 3, (uint64_t)cells, 2);
    put_number(page + 5, (uint64_t)top, 2); /* 65536 is written as 0 */
}

int64_t sqlite_leaves(int64_t n, const int64_t *ids, const struct column *columns, int64_t width, int64_t size,
                      int64_t pages, uint8_t *out, int64_t *last, int64_t *used)
{
    int64_t page = -1, cells = 0, top = 0, row = 0;
    for (; row < n; row++) {
        uint64_t types[MOST];
        int64_t bytes[MOST], body = 0, header = 1, shown = 1; /* without any, a cell would be too short */
        for (int64_t c = 0; c < width; c++) {
            const struct column *of = columns + c;
            types[c] = 0;
            bytes[c] = 0;
            if (of->offsets) {
                int32_t code = of->codes[row];
                if (code >= 0) {
                    bytes[c] = of->offsets[code + 1] - of->offsets[code];
                    types[c] = 13 + 2 * (uint64_t)bytes[c];
                }
            } else if (of->values && (!of->valid || of->valid[row])) {
                types[c] = type_of(of->values[row], bytes + c);
            }
            if (types[c])
                shown = c + 1; /* what is null at the end is left out, as SQLITE_ENABLE_NULL_TRIM has it */
            body += bytes[c];
        }
        for (int64_t c = 0; c < shown; c++)
            header += length_of(types[c]);
        int64_t payload = header + body;
        if (header > 127 || payload > size - 35) /* the first would have a longer length, the second more pages (1.6) */
            break;
        int64_t cell = length_of((uint64_t)payload) + length_of((uint64_t)ids[row]) + payload;
        if (page < 0 || top - cell < HEADER + POINTER * (cells + 1)) {
            if (page + 1 == pages)
                break;
            if (page >= 0)
                finish(out + page * size, cells, top);
            page++;
            cells = 0;
            top = size;
            memset(out + page * size, 0, (size_t)size);
        }
        top -= cell;
        uint8_t *to = out + page * size;
        put_number(to + HEADER + POINTER * cells++, (uint64_t)top, 2);
        to = put_varint(put_varint(to + top, (uint64_t)payload), (uint64_t)ids[row]);
        *to++ = (uint8_t)header;
        for (int64_t c = 0; c < shown; c++)
            to = put_varint(to, types[c]);
        for (int64_t c = 0; c < shown; c++) {
            if (types[c] > 11)
                memcpy(to, columns[c].data + columns[c].offsets[columns[c].codes[row]], (size_t)bytes[c]);
            else if (bytes[c])
                put_number(to, (uint64_t)columns[c].values[row], bytes[c]);
            to += bytes[c];
        }
        last[page] = ids[row];
    }
    if (page >= 0)
        finish(out + page * size, cells, top);
    *used = page + 1;
    return row;
}
