/*
 * A known series of o32 system calls on a big-endian mips without a kernel: ground truth for a tracer.
 *
 * Debian 12 has no kernel for big-endian mips. So this program is loaded as if it were one (-M malta -kernel). It maps
 * itself for user mode, puts a handler at the exception vector that gives each call the next known result, goes to user
 * mode and makes its calls by real `syscall` instructions: number in v0, arguments in a0 to a3 and on the stack. Then it
 * prints, one JSON line a call, what it passed and got:
 *
 *   {"index": 2, "name": "pread64", "nr": 4200, "args": ["0x3", "0x400a10", "0x8", "0x123456789"],
 *    "words": ["0x3", "0x400a10", "0x8", "0xdeadbeef", "0x1", "0x23456789"], "strings": {}, "out": {"1": "66617220"},
 *    "ret": 8, "failed": 0}
 *
 *   args     the call's own arguments: a 64-bit one is one
 *   words    as they were passed, as many as the call takes; the fifth lies at sp + 16
 *   ret      v0 as a signed number; null for the last call, which does not come back
 *   failed   a3 at the return: not 0 says that v0 is an errno
 *
 * Linked at 0x00400000, which is also where it lies in physical memory; it begins at the same place in kseg0.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

enum { EXIT_GROUP = 4246 };

struct call {
    u32 nr, words[8], gives[2], got[2]; /* the kernel-mode and user-mode assembly go by this order */
    const char *name;
    u32 count, own, in, out; /* in and out: bits by position in args */
    u64 args[6];
} calls[32], *current;
static int made;

#define P(pointer) ((u32)(pointer))
#define HOLE 0xdeadbeef
#define WORDS(...) (sizeof((u32[]){__VA_ARGS__}) / 4), ((u32[8]){__VA_ARGS__})
#define ARGS(...) (sizeof((u64[]){__VA_ARGS__}) / 8), ((u64[6]){__VA_ARGS__})
#define PLAIN 0, ((u64[6]){0}) /* the words are the arguments */

/* ---- kernel mode ---- */

asm(".set push\n.set noreorder\n.set noat\n"
    ".text\n.globl begin\nbegin:\n"
    /* Exceptions go to 0x80000180 from now on: Status.BEV is 0. */
    "mtc0 $0, $12\n ehb\n"
    "lui $8, 0x8000\n la $9, vector\n or $9, $9, $8\n la $10, vector_end\n or $10, $10, $8\n addiu $11, $8, 0x180\n"
    "1: lw $12, 0($9)\n sw $12, 0($11)\n addiu $9, $9, 4\n bne $9, $10, 1b\n addiu $11, $11, 4\n"
    /* TLB entry 0: 2 * 64 KiB at 0x00400000, where we are; entry 1: 2 * 64 KiB of ISA's ports at 0x00800000. */
    "lui $8, 0x1\n ori $8, $8, 0xe000\n mtc0 $8, $5\n addiu $8, $0, 2\n mtc0 $8, $6\n"
    "mtc0 $0, $0\n lui $8, 0x40\n ori $8, $8, 5\n mtc0 $8, $10\n"
    "lui $8, 0x1\n ori $8, $8, 0x1f\n mtc0 $8, $2\n addiu $8, $8, 0x400\n mtc0 $8, $3\n ehb\n tlbwi\n"
    "addiu $8, $0, 1\n mtc0 $8, $0\n lui $8, 0x80\n ori $8, $8, 5\n mtc0 $8, $10\n"
    "lui $8, 0x60\n ori $8, $8, 0x17\n mtc0 $8, $2\n addiu $8, $8, 0x400\n mtc0 $8, $3\n ehb\n tlbwi\n"
    /* To main in user mode (Status.KSU is 2; .EXL is 1 until eret), on a stack at the end of our 128 KiB. */
    "addiu $8, $0, 0x12\n mtc0 $8, $12\n la $8, main\n mtc0 $8, $14\n lui $29, 0x42\n addiu $29, $29, -64\n ehb\n"
    "eret\n nop\n"
    /* A call gets the result that `current` has for it. exit_group, or anything but a call, ends the emulation. */
    "vector: mfc0 $26, $13\n andi $26, $26, 0x7c\n addiu $26, $26, -0x20\n bne $26, $0, 2f\n"
    "addiu $26, $0, 4246\n beq $2, $26, 2f\n lui $26, 0x8000\n"
    "la $27, current\n or $27, $27, $26\n lw $27, 0($27)\n or $27, $27, $26\n lw $2, 36($27)\n lw $7, 40($27)\n"
    "mfc0 $27, $14\n addiu $27, $27, 4\n mtc0 $27, $14\n ehb\n eret\n"
    "2: lui $26, 0xbf00\n addiu $27, $0, 0x42\n sw $27, 0x500($26)\n 3: b 3b\n nop\n" /* malta's reset */
    "vector_end:\n.set pop\n");

/* ---- user mode ---- */

/* Words from the fifth on lie where o32 has them: at sp + 16. */
void enter(struct call *call);
asm(".set push\n.set noreorder\n.text\n.globl enter\nenter:\n"
    "addiu $29, $29, -48\n sw $16, 40($29)\n move $16, $4\n"
    "lw $8, 20($16)\n sw $8, 16($29)\n lw $8, 24($16)\n sw $8, 20($29)\n"
    "lw $8, 28($16)\n sw $8, 24($29)\n lw $8, 32($16)\n sw $8, 28($29)\n"
    "lw $2, 0($16)\n lw $4, 4($16)\n lw $5, 8($16)\n lw $6, 12($16)\n lw $7, 16($16)\n syscall\n"
    "sw $2, 44($16)\n sw $7, 48($16)\n lw $16, 40($29)\n jr $31\n addiu $29, $29, 48\n.set pop\n");

static struct call *claim(const char *name, u32 nr, u32 in, u32 out, u32 v0, u32 a3, u32 count, const u32 *words, u32 own,
                          const u64 *args)
{
    struct call *call = &calls[made++];

    call->name = name;
    call->nr = nr;
    call->in = in;
    call->out = out;
    call->gives[0] = v0;
    call->gives[1] = a3;
    call->count = count;
    call->own = own;
    for (u32 i = 0; i < 8; i++)
        call->words[i] = words[i];
    for (u32 i = 0; i < own; i++)
        call->args[i] = args[i];
    return current = call;
}

#define CALL(...) enter(claim(__VA_ARGS__))

static void series(void)
{
    static const char passwd[] = "/etc/passwd", missing[] = "/no/such/file", hello[] = "hello, big end\n", far[] = "far away";
    static const u32 pair[3] = {2, 1, 0}, address[4] = {0x00020050, 0x7f000001, 0, 0};
    static u32 result[2];

    CALL("open", 4005, 1, 0, 3, 0, WORDS(P(passwd), 0, 0), PLAIN);
    CALL("openat", 4288, 2, 0, 2, 1, WORDS(-100, P(missing), 0, 0), PLAIN);
    CALL("pread64", 4200, 0, 2, 8, 0, WORDS(3, P(far), 8, HOLE, 1, 0x23456789), ARGS(3, P(far), 8, 0x123456789));
    CALL("pread64", 4200, 0, 0, 22, 1, WORDS(3, P(far), 8, HOLE, -1, -2), ARGS(3, P(far), 8, -2ULL));
    CALL("pwrite64", 4201, 2, 0, 27, 1, WORDS(3, P(far), 8, HOLE, 0x7fffffff, -1), ARGS(3, P(far), 8, -1ULL >> 1));
    CALL("ftruncate64", 4212, 0, 0, 0, 0, WORDS(3, HOLE, 2, 0x80000010), ARGS(3, 0x280000010));
    CALL("truncate64", 4211, 1, 0, 13, 1, WORDS(P(passwd), HOLE, 0, 0x80000010), ARGS(P(passwd), 0x80000010));
    CALL("readahead", 4223, 0, 0, 0, 0, WORDS(3, HOLE, 1, 2, 4096), ARGS(3, 0x100000002, 4096));
    CALL("fallocate", 4320, 0, 0, 122, 1, WORDS(3, 1, 1, 2, 0, 5), ARGS(3, 1, 0x100000002, 5)); /* 122: EOPNOTSUPP here */
    CALL("fadvise64", 4254, 0, 0, 0, 0, WORDS(3, HOLE, 1, 2, 3, 4, 5), ARGS(3, 0x100000002, 0x300000004, 5));
    CALL("sync_file_range", 4305, 0, 0, 0, 0, WORDS(3, HOLE, 1, 2, 3, 4, 7), ARGS(3, 0x100000002, 0x300000004, 7));
    CALL("_llseek", 4140, 0, 0, 0, 0, WORDS(3, 2, 0x80000010, P(result), 0), PLAIN);
    CALL("mmap2", 4210, 0, 0, 0x9abcd000, 0, WORDS(0, 8192, 1, 0x802, -1, 0x89abcdef), PLAIN);
    CALL("mmap", 4090, 0, 0, 0xfffff000, 0, WORDS(0, 4096, 1, 0x802, -1, 0x7000), PLAIN);
    CALL("times", 4043, 0, 0, -2, 0, WORDS(0), PLAIN); /* no error: the flag says so */
    CALL("connect", 4170, 0, 0, 146, 1, WORDS(3, P(address), 16), PLAIN); /* ECONNREFUSED is 111 elsewhere */
    CALL("socketcall", 4102, 0, 0, 4, 0, WORDS(1, P(pair)), ARGS(2, 1, 0));
    CALL("write", 4004, 2, 0, 15, 0, WORDS(1, P(hello), 15), PLAIN);
    CALL("getpid", 4020, 0, 0, 77, 0, WORDS(), PLAIN);
    CALL(0, 4999, 0, 0, 89, 1, WORDS(1U << 31, -1, 0x80000001, -4095, 0, 0x80008000), PLAIN); /* ENOSYS is 38 elsewhere */
}

static void put(char c)
{
    *(volatile char *)0x8003f8 = c; /* the first serial port */
}

static void text(const char *at)
{
    while (*at)
        put(*at++);
}

static void hex(u64 value)
{
    int shift = 60;

    while (shift && !(value >> shift))
        shift -= 4;
    for (text("\"0x"); shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
    put('"');
}

static void number(int value)
{
    u32 rest = value < 0 ? -(u32)value : (u32)value, unit = 1000000000;

    if (value < 0)
        put('-');
    while (unit > 1 && rest < unit)
        unit /= 10;
    for (; unit; unit /= 10)
        put('0' + rest / unit % 10);
}

static void marked(const char *key, const struct call *call, u32 mark)
{
    const char *comma = "";

    text(", \"");
    text(key);
    text("\": {");
    for (int i = 0; i < 6; i++) {
        const char *at = (const char *)(u32)(call->own ? call->args[i] : call->words[i]);

        if (!(mark >> i & 1))
            continue;
        text(comma);
        comma = ", ";
        put('"');
        number(i);
        text("\": \"");
        for (; *at; at++) {
            put("0123456789abcdef"[*at >> 4]);
            put("0123456789abcdef"[*at & 15]);
        }
        put('"');
    }
    put('}');
}

static void line(int index, const struct call *call)
{
    text("{\"index\": ");
    number(index);
    text(", \"name\": ");
    text(call->name ? "\"" : "null");
    text(call->name ? call->name : "");
    text(call->name ? "\"" : "");
    text(", \"nr\": ");
    number(call->nr);
    text(", \"words\": [");
    for (u32 i = 0; i < call->count; i++) {
        text(i ? ", " : "");
        hex(call->words[i]);
    }
    text("], \"args\": [");
    for (u32 i = 0; i < (call->own ? call->own : call->count); i++) {
        text(i ? ", " : "");
        hex(call->own ? call->args[i] : call->words[i]);
    }
    put(']');
    marked("strings", call, call->in);
    marked("out", call, call->out);
    text(", \"ret\": ");
    if (call->nr == EXIT_GROUP)
        text("null");
    else
        number(call->got[0]);
    text(", \"failed\": ");
    number(call->got[1]);
    text("}\n");
}

__attribute__((noreturn)) void main(void)
{
    struct call *end;

    series();
    end = claim("exit_group", EXIT_GROUP, 0, 0, 0, 0, WORDS(7), PLAIN);
    for (int i = 0; i < made; i++)
        line(i, &calls[i]);
    enter(end);
    for (;;)
        ;
}
