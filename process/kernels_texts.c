/* Texts, one after the other in memory. The module of the same name says what each function takes and gives. */
#include "kernels.h"

static int digits_of(uint64_t value)
{
#ifdef __GNUC__
    return 16 - __builtin_clzll(value | 1) / 4;
#else
    int digits = 1;
    while (value >>= 4)
        digits++;
    return digits;
#endif
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

enum { ABSOLUTE = 1, TIDY = 2, OF_KERNEL = 4 };

/* Whether a path has an empty name, or `.` or `..`, or ends in a slash. */
static int is_untidy(const uint8_t *path, const uint8_t *end)
{
    for (; path < end; path++) {
        if (*path != '/')
            continue;
        const uint8_t *name = path + 1;
        if (name < end && *name == '.')
            name += name + 1 < end && name[1] == '.' ? 2 : 1;
        else if (name < end && *name != '/')
            continue;
        if (name == end || *name == '/')
            return 1;
    }
    return 0;
}

static int begins(const uint8_t *path, const uint8_t *end, const char *with, size_t size)
{
    return (size_t)(end - path) >= size && memcmp(path, with, size) == 0;
}

void look_at_paths(int64_t n, const int64_t *offsets, const uint8_t *data, uint8_t *found)
{
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *path = data + offsets[i], *end = data + offsets[i + 1];
        found[i] = path < end && *path == '/' ? ABSOLUTE : 0;
        if (!is_untidy(path, end))
            found[i] |= TIDY;
        if (begins(path, end, "/proc/", 6) || begins(path, end, "/dev/", 5))
            found[i] |= OF_KERNEL;
    }
}
