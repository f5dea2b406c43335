/* Records out of byte planes. The module of the same name says what each function takes and gives. */
#include "kernels.h"

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
