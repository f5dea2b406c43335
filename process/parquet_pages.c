/* What the pages of a Parquet file hold, before it is compressed. parquet_pages.py says what is taken and given.
 *
 * The format is that of https://github.com/apache/parquet-format; sections of its Encodings.md are named where a fact
 * is used. The rules of kernels.h hold. What is written may be followed by up to SLACK bytes of rubbish.
 */
#include "hashing.h"
#include "kernels.h"

enum { GROUP = 8, GROUPS = 63, MINIBLOCK = 32, MINIBLOCKS = 4, BLOCK = MINIBLOCK * MINIBLOCKS };

/* Compilers make this one store. */
static inline void put_word(uint8_t *at, uint64_t word)
{
    for (int k = 0; k < 8; k++)
        at[k] = (uint8_t)(word >> 8 * k);
}

/* ULEB128. */
static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (uint8_t)value | 0x80;
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_signed(uint8_t *at, uint64_t value)
{
    return put_varint(at, value << 1 ^ (0 - (value >> 63))); /* zigzag */
}

static int width_of(uint64_t value)
{
    int width = 0;
    for (; value; value >>= 1)
        width++;
    return width;
}

/* Eight values of so many bits, from the least significant bit up (RLE, 1): as many bytes as a value has bits. */
static inline uint8_t *pack(uint8_t *at, const uint64_t *values, int width)
{
    if (width <= 8) {
        uint64_t word = 0;
        for (int k = 0; k < GROUP; k++)
            word |= values[k] << k * width;
        put_word(at, word);
        return at + width;
    }
    uint8_t *end = at + width;
    uint64_t word = 0;
    int bits = 0;
    for (int k = 0; k < GROUP; k++) {
        word |= values[k] << bits;
        bits += width;
        if (bits >= 64) {
            put_word(at, word);
            at += 8;
            bits -= 64;
            word = bits ? values[k] >> (width - bits) : 0;
        }
    }
    put_word(at, word);
    return end;
}

int64_t kept_codes(const int32_t *codes, int64_t n, uint32_t *kept, uint8_t *bits)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += GROUP) {
        unsigned of_group = 0;
        for (int k = 0; k < GROUP && i + k < n; k++) {
            unsigned is_there = codes[i + k] >= 0;
            kept[count] = (uint32_t)codes[i + k];
            count += is_there;
            of_group |= is_there << k;
        }
        bits[i / GROUP] = (uint8_t)of_group;
    }
    return count;
}

int64_t kept_values(const int64_t *values, const uint8_t *valid, int64_t n, int64_t *kept, uint8_t *bits)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += GROUP) {
        unsigned of_group = 0;
        for (int k = 0; k < GROUP && i + k < n; k++) {
            unsigned is_there = valid[i + k] != 0;
            kept[count] = values[i + k];
            count += is_there;
            of_group |= is_there << k;
        }
        bits[i / GROUP] = (uint8_t)of_group;
    }
    return count;
}

void mark_used(const uint32_t *codes, int64_t n, uint8_t *used)
{
    for (int64_t i = 0; i < n; i++)
        used[codes[i]] = 1;
}

void recode(const uint32_t *codes, int64_t n, const uint32_t *code_of, uint32_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = code_of[codes[i]];
}

/* RLE / bit-packing hybrid of one bit each; only what fills whole bytes is a run. */
int64_t put_levels(const uint8_t *bits, int64_t n, uint8_t *out)
{
    enum { LEAST = 4 }; /* a shorter run takes as many bytes as the bits do */
    uint8_t *at = out, *header = NULL;
    int64_t whole = n / GROUP, groups = 0;
    for (int64_t i = 0; i < (n + GROUP - 1) / GROUP;) {
        int64_t end = i;
        if (bits[i] == 0 || bits[i] == 0xff)
            while (end < whole && bits[end] == bits[i])
                end++;
        if (end - i >= LEAST) {
            at = put_varint(at, (uint64_t)(end - i) * GROUP << 1);
            *at++ = bits[i] & 1;
            i = end;
            header = NULL;
            continue;
        }
        if (!header || groups == GROUPS) {
            header = at++;
            groups = 0;
        }
        *header = (uint8_t)(++groups << 1 | 1);
        *at++ = bits[i++];
    }
    return at - out;
}

int64_t put_codes(const uint32_t *codes, int64_t n, int64_t width, uint8_t *out)
{
    uint8_t *at = out, *header = NULL;
    int64_t groups = 0, bytes = (width + 7) / 8;
    for (int64_t i = 0; i < n;) {
        uint64_t values[GROUP];
        if (n - i >= GROUP) {
            uint32_t other = 0;
            for (int k = 1; k < GROUP; k++)
                other |= codes[i] ^ codes[i + k];
            if (!other) {
                int64_t end = i + GROUP;
                while (end < n && codes[end] == codes[i])
                    end++;
                at = put_varint(at, (uint64_t)(end - i) << 1);
                put_word(at, codes[i]);
                at += bytes;
                i = end;
                header = NULL;
                continue;
            }
            for (int k = 0; k < GROUP; k++)
                values[k] = codes[i + k];
        } else {
            for (int k = 0; k < GROUP; k++)
                values[k] = i + k < n ? codes[i + k] : 0;
        }
        if (!header || groups == GROUPS) { /* so that it is one byte */
            header = at++;
            groups = 0;
        }
        *header = (uint8_t)(++groups << 1 | 1);
        at = pack(at, values, (int)width);
        i += GROUP;
    }
    return at - out;
}

int64_t put_deltas(const int64_t *values, int64_t n, uint8_t *out)
{
    uint8_t *at = put_varint(out, BLOCK);
    at = put_varint(at, MINIBLOCKS);
    at = put_varint(at, (uint64_t)n);
    at = put_signed(at, n ? (uint64_t)values[0] : 0);
    for (int64_t i = 1; i < n; i += BLOCK) {
        uint64_t deltas[BLOCK] = {0}; /* wrap around, as the format says */
        int64_t count = n - i < BLOCK ? n - i : BLOCK, least = INT64_MAX;
        for (int64_t k = 0; k < count; k++) {
            deltas[k] = (uint64_t)values[i + k] - (uint64_t)values[i + k - 1];
            least = (int64_t)deltas[k] < least ? (int64_t)deltas[k] : least;
        }
        for (int64_t k = 0; k < count; k++)
            deltas[k] -= (uint64_t)least;
        at = put_signed(at, (uint64_t)least);
        uint8_t *widths = at;
        at += MINIBLOCKS;
        for (int block = 0; block < MINIBLOCKS; block++) {
            const uint64_t *mine = deltas + block * MINIBLOCK;
            uint64_t any = 0;
            for (int k = 0; k < MINIBLOCK; k++)
                any |= mine[k];
            int width = width_of(any);
            widths[block] = (uint8_t)width;
            for (int k = 0; k < MINIBLOCK && width; k += GROUP)
                at = pack(at, mine + k, width);
        }
    }
    return at - out;
}

int64_t number_values(const int64_t *values, int64_t n, int64_t least, int64_t span, int64_t most, uint64_t seed,
                      int64_t *distinct, uint32_t *codes)
{
    uint64_t mask = 1;
    while (mask < 2 * (uint64_t)most)
        mask = mask << 1 | 1;
    uint32_t *table = calloc((size_t)(span ? span : (int64_t)mask + 1), sizeof *table);
    int64_t count = 0, steps = 0;
    if (!table)
        return OUT_OF_MEMORY;
    int64_t i = 0;
    for (; i < n && steps <= 64 * i + (1 << 16); i++) { /* more steps: somebody has found values that collide */
        int64_t value = values[i];
        uint64_t at;
        if (span) {
            at = (uint64_t)value - (uint64_t)least;
        } else if (i && value == values[i - 1]) {
            codes[i] = codes[i - 1];
            continue;
        } else {
            at = mixed((uint64_t)value, seed) & mask;
            while (table[at] && distinct[table[at] - 1] != value) {
                at = (at + 1) & mask;
                steps++;
            }
        }
        if (!table[at]) {
            if (count == most)
                break;
            distinct[count++] = value;
            table[at] = (uint32_t)count;
        }
        codes[i] = table[at] - 1;
    }
    free(table);
    return i == n ? count : UNSUITED;
}

/* PLAIN: the length, then the text. */
int64_t put_texts(const int64_t *offsets, const uint8_t *data, const int64_t *places, int64_t n, uint8_t *out)
{
    uint8_t *at = out;
    for (int64_t i = 0; i < n; i++) {
        int64_t place = places ? places[i] : i, size = offsets[place + 1] - offsets[place];
        for (int k = 0; k < 4; k++)
            at[k] = (uint8_t)(size >> 8 * k);
        memcpy(at + 4, data + offsets[place], (size_t)size);
        at += 4 + size;
    }
    return at - out;
}

/* In the order of their bytes, which is that of their characters (parquet.thrift, ColumnOrder). */
void extreme_texts(const int64_t *offsets, const uint8_t *data, const int64_t *places, int64_t n, int64_t *extremes)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t place = places ? places[i] : i, size = offsets[place + 1] - offsets[place];
        for (int side = 0; side < 2; side++) {
            int64_t other = i ? extremes[side] : place, length = offsets[other + 1] - offsets[other];
            int64_t common = size < length ? size : length;
            int order = memcmp(data + offsets[place], data + offsets[other], (size_t)common);
            int64_t sign = order ? order : size < length ? -1 : size > length;
            extremes[side] = (side ? sign > 0 : sign < 0) || !i ? place : other;
        }
    }
}
