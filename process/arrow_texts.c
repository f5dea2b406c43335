/* Texts as an Arrow array that owns its memory (https://arrow.apache.org/docs/format/CDataInterface.html).
 * frames.py says what this is for. It is let go of without Python, which may have ended by then. */
#include "kernels.h"

struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

static void release_schema(struct ArrowSchema *schema)
{
    schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
    free(array->private_data);
    array->release = NULL;
}

int64_t arrow_texts(int64_t n, const int64_t *offsets, const uint8_t *data, struct ArrowSchema *schema,
                    struct ArrowArray *array)
{
    size_t index = (size_t)(n + 1) * sizeof *offsets, buffers = 3 * sizeof(void *);
    uint8_t *memory = malloc(buffers + index + (size_t)offsets[n] + 1);
    if (!memory)
        return OUT_OF_MEMORY;
    const void **parts = (const void **)memory;
    parts[0] = NULL; /* none is null */
    parts[1] = memcpy(memory + buffers, offsets, index);
    parts[2] = memcpy(memory + buffers + index, data, (size_t)offsets[n]);
    *schema = (struct ArrowSchema){.format = "U", .name = "", .release = release_schema};
    *array = (struct ArrowArray){
        .length = n, .n_buffers = 3, .buffers = parts, .release = release_array, .private_data = memory,
    };
    return 0;
}

int64_t size_of_arrow_schema(void)
{
    return sizeof(struct ArrowSchema);
}

int64_t size_of_arrow_array(void)
{
    return sizeof(struct ArrowArray);
}
