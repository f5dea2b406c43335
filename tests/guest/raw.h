/*
 * System calls by an instruction of our own, so that no C library hides one in between. All in assembly: a child may
 * run on its parent's stack, and the compiler must not use it there.
 *
 *   raw         makes a call of WORDS words at the most. Gives what the kernel gives; on mips, where a flag says that
 *               the result is an errno, its negative, as the others do.
 *   vfork_exec  vfork, whose child executes: execve(args[0], args[1], args[2]). Gives vfork's result.
 *   spawn       makes a call that returns twice, whose child has a stack of its own and runs body there.
 */
#ifndef RAW_H
#define RAW_H

enum { WORDS = 8 };

long raw(long nr, const unsigned long *args);
long vfork_exec(const unsigned long *args);
long spawn(long nr, const unsigned long *args, void (*body)(void));
/* Where a signal handler returns to: rt_sigreturn. Not on mips, where the kernel has a place of its own. */
void restorer(void);

#define FUNCTION(name) ".text\n.globl " #name "\n.type " #name ", %function\n" #name ":\n"

#if defined(__x86_64__)
#define LOAD                                                                                                           \
    "mov %rdi, %rax\n mov (%rsi), %rdi\n mov 16(%rsi), %rdx\n mov 24(%rsi), %r10\n mov 32(%rsi), %r8\n"                \
    "mov 40(%rsi), %r9\n mov 8(%rsi), %rsi\n"
asm(FUNCTION(raw) LOAD "syscall\n ret\n"
    FUNCTION(spawn) "mov %rdx, %rcx\n" LOAD "mov %rcx, %r9\n syscall\n test %rax, %rax\n jnz 1f\n xor %ebp, %ebp\n"
    "call *%r9\n 1: ret\n"
    FUNCTION(vfork_exec) "mov %rdi, %r8\n mov $58, %eax\n syscall\n test %rax, %rax\n jnz 1f\n"
    "mov (%r8), %rdi\n mov 8(%r8), %rsi\n mov 16(%r8), %rdx\n mov $59, %eax\n syscall\n"
    "mov $127, %edi\n mov $231, %eax\n syscall\n 1: ret\n"
    FUNCTION(restorer) "mov $15, %eax\n syscall\n");
#elif defined(__i386__)
#define SAVE "push %ebx\n push %esi\n push %edi\n push %ebp\n"
#define LOAD(last)                                                                                                     \
    "mov 20(%esp), %eax\n mov 24(%esp), %ebp\n mov (%ebp), %ebx\n mov 4(%ebp), %ecx\n mov 8(%ebp), %edx\n"             \
    "mov 12(%ebp), %esi\n mov 16(%ebp), %edi\n mov " last ", %ebp\n int $0x80\n"
#define RESTORE "pop %ebp\n pop %edi\n pop %esi\n pop %ebx\n ret\n"
asm(FUNCTION(raw) SAVE LOAD("20(%ebp)") RESTORE
    FUNCTION(spawn) SAVE LOAD("28(%esp)") "test %eax, %eax\n jnz 1f\n call *%ebp\n 1:" RESTORE
    /* The child pushes nothing: what vfork returns to is on the stack. */
    FUNCTION(vfork_exec) SAVE "mov 20(%esp), %esi\n mov $190, %eax\n int $0x80\n test %eax, %eax\n jnz 1f\n"
    "mov (%esi), %ebx\n mov 4(%esi), %ecx\n mov 8(%esi), %edx\n mov $11, %eax\n int $0x80\n"
    "mov $127, %ebx\n mov $252, %eax\n int $0x80\n 1:" RESTORE
    FUNCTION(restorer) "mov $173, %eax\n int $0x80\n");
#elif defined(__arm__)
#define LOAD "push {r4-r8, lr}\n mov r7, r0\n mov r8, r2\n mov ip, r1\n ldm ip, {r0-r6}\n svc 0\n"
asm(".syntax unified\n .arm\n"
    FUNCTION(raw) LOAD "pop {r4-r8, pc}\n"
    FUNCTION(spawn) LOAD "cmp r0, #0\n bne 1f\n blx r8\n 1: pop {r4-r8, pc}\n"
    FUNCTION(vfork_exec) "mov ip, r7\n mov r3, r0\n mov r7, #190\n svc 0\n cmp r0, #0\n bne 1f\n"
    "ldm r3, {r0-r2}\n mov r7, #11\n svc 0\n mov r0, #127\n mov r7, #248\n svc 0\n 1: mov r7, ip\n bx lr\n"
    FUNCTION(restorer) "mov r7, #173\n svc 0\n");
#elif defined(__aarch64__)
#define LOAD                                                                                                           \
    "mov x8, x0\n mov x9, x1\n mov x10, x2\n ldp x0, x1, [x9]\n ldp x2, x3, [x9, 16]\n ldp x4, x5, [x9, 32]\n svc 0\n"
asm(FUNCTION(raw) LOAD "ret\n"
    FUNCTION(spawn) LOAD "cbnz x0, 1f\n mov x29, 0\n blr x10\n 1: ret\n"
    /* No vfork here: clone(CLONE_VM | CLONE_VFORK | SIGCHLD), on the parent's stack. */
    FUNCTION(vfork_exec) "mov x9, x0\n mov x0, 0x4111\n mov x1, 0\n mov x2, 0\n mov x3, 0\n mov x4, 0\n mov x8, 220\n"
    "svc 0\n cbnz x0, 1f\n ldp x0, x1, [x9]\n ldr x2, [x9, 16]\n mov x8, 221\n svc 0\n"
    "mov x0, 127\n mov x8, 94\n svc 0\n 1: ret\n"
    FUNCTION(restorer) "mov x8, 139\n svc 0\n");
#elif defined(__mips__) && _MIPS_SIM == _ABIO32
#define BEGIN_FRAME "addiu $sp, $sp, -40\n sw $s0, 32($sp)\n move $s0, $a2\n"
#define LOAD                                                                                                           \
    "lw $t0, 16($a1)\n sw $t0, 16($sp)\n lw $t0, 20($a1)\n sw $t0, 20($sp)\n lw $t0, 24($a1)\n sw $t0, 24($sp)\n"      \
    "lw $t0, 28($a1)\n sw $t0, 28($sp)\n move $v0, $a0\n move $t1, $a1\n"                                              \
    "lw $a0, 0($t1)\n lw $a1, 4($t1)\n lw $a2, 8($t1)\n lw $a3, 12($t1)\n syscall\n"
#define SIGN "beqz $a3, 1f\n nop\n negu $v0, $v0\n"
#define END_FRAME "1: lw $s0, 32($sp)\n addiu $sp, $sp, 40\n jr $ra\n nop\n"
asm(".set push\n .set noreorder\n"
    FUNCTION(raw) BEGIN_FRAME LOAD SIGN END_FRAME
    FUNCTION(spawn) BEGIN_FRAME LOAD "bnez $a3, 2f\n nop\n bnez $v0, 1f\n nop\n move $t9, $s0\n jalr $t9\n nop\n"
    "2: negu $v0, $v0\n" END_FRAME
    FUNCTION(vfork_exec) BEGIN_FRAME "move $s0, $a0\n"
    /* No vfork here, either: clone(CLONE_VM | CLONE_VFORK | SIGCHLD); SIGCHLD is 18. */
    "li $a0, 0x4112\n li $a1, 0\n li $a2, 0\n li $a3, 0\n sw $zero, 16($sp)\n li $v0, 4120\n syscall\n"
    "bnez $v0, 1f\n nop\n lw $a0, 0($s0)\n lw $a1, 4($s0)\n lw $a2, 8($s0)\n li $v0, 4011\n syscall\n"
    "li $a0, 127\n li $v0, 4246\n syscall\n" END_FRAME
    ".set pop\n");
#else
#error "no system calls by hand for this architecture"
#endif
asm(".text\n");
#endif
