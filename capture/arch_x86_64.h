/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What depends on x86-64: system calls without libc, the signal return trampoline, where registers lie in a signal frame
 * and in what ptrace(2) gives. Registers are kept in DWARF numbering (System V ABI for x86-64, figure 3.36), then some
 * that only the report wants.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>
#include <sys/user.h>

enum {
	ARCH_ID = 62, /* EM_X86_64 */
	ARCH_PC = 16,
	ARCH_SP = 7,
	ARCH_FP = 6,
	ARCH_EFLAGS = 17,
	ARCH_ORIG_AX = 18,
	ARCH_ERR = 19, /* page fault error code; UINT64_MAX when only ptrace(2) was asked, which does not tell */
	ARCH_TRAP = 20,
	ARCH_CR2 = 21,
	ARCH_REGS = 22,
	ARCH_RED_ZONE = 128,
};

/* From the stack pointer in the trampoline to the siginfo of the signal. Source: struct rt_sigframe */
#define ARCH_FRAME_SIGINFO 304
/* From there to error code, trap number and address: where in the frame of a handler without SA_SIGINFO the cause is */
#define ARCH_FRAME_FAULT (40 + 19 * 8)

#define ARCH_REG_NAMES                                                                                       \
	{ "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",    \
		"r14", "r15", "rip", "eflags", "orig_rax", "err", "trap", "cr2" }

static inline long arch_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/*
 * Debuggers and unwinders know a signal frame by these bytes (mov $15,%rax; syscall). The nop keeps "pc - 1" of a return
 * into it inside this function.
 */
#define ARCH_SA_RESTORER 0x04000000ul
#define ARCH_DEFINE_RESTORER(name)                                                                           \
	__asm__(".text\n"                                                                                    \
		".balign 16\n"                                                                               \
		"nop\n"                                                                                      \
		".type " #name ",@function\n" #name ":\n"                                                    \
		".byte 0x48,0xc7,0xc0,0x0f,0,0,0,0x0f,0x05\n"                                                \
		".size " #name ",.-" #name "\n");                                                            \
	extern void name(void) __attribute__((visibility("hidden")))

enum { ARCH_TRAMPOLINE_BYTES = 9 };

static inline bool arch_is_trampoline(const uint8_t *code)
{
	static const uint8_t bytes[ARCH_TRAMPOLINE_BYTES] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };

	for (int i = 0; i < ARCH_TRAMPOLINE_BYTES; i++)
		if (code[i] != bytes[i])
			return false;
	return true;
}

/* From the kernel's order in a signal frame to DWARF's. */
static inline void arch_regs_from_ucontext(uint64_t *regs, const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;

	regs[0] = (uint64_t)g[REG_RAX];
	regs[1] = (uint64_t)g[REG_RDX];
	regs[2] = (uint64_t)g[REG_RCX];
	regs[3] = (uint64_t)g[REG_RBX];
	regs[4] = (uint64_t)g[REG_RSI];
	regs[5] = (uint64_t)g[REG_RDI];
	regs[6] = (uint64_t)g[REG_RBP];
	regs[7] = (uint64_t)g[REG_RSP];
	regs[8] = (uint64_t)g[REG_R8];
	regs[9] = (uint64_t)g[REG_R9];
	regs[10] = (uint64_t)g[REG_R10];
	regs[11] = (uint64_t)g[REG_R11];
	regs[12] = (uint64_t)g[REG_R12];
	regs[13] = (uint64_t)g[REG_R13];
	regs[14] = (uint64_t)g[REG_R14];
	regs[15] = (uint64_t)g[REG_R15];
	regs[16] = (uint64_t)g[REG_RIP];
	regs[17] = (uint64_t)g[REG_EFL];
	regs[18] = UINT64_MAX;
	regs[19] = (uint64_t)g[REG_ERR];
	regs[20] = (uint64_t)g[REG_TRAPNO];
	regs[21] = (uint64_t)g[REG_CR2];
}

/* A system call refused by a seccomp filter with SIGSYS: what it returns. */
static inline void arch_set_return(ucontext_t *uc, long value)
{
	uc->uc_mcontext.gregs[REG_RAX] = value;
}

/* From what PTRACE_GETREGSET(NT_PRSTATUS) gives. */
static inline void arch_regs_from_ptrace(uint64_t *regs, const struct user_regs_struct *u)
{
	regs[0] = u->rax;
	regs[1] = u->rdx;
	regs[2] = u->rcx;
	regs[3] = u->rbx;
	regs[4] = u->rsi;
	regs[5] = u->rdi;
	regs[6] = u->rbp;
	regs[7] = u->rsp;
	regs[8] = u->r8;
	regs[9] = u->r9;
	regs[10] = u->r10;
	regs[11] = u->r11;
	regs[12] = u->r12;
	regs[13] = u->r13;
	regs[14] = u->r14;
	regs[15] = u->r15;
	regs[16] = u->rip;
	regs[17] = u->eflags;
	regs[18] = u->orig_rax;
	regs[19] = regs[20] = regs[21] = UINT64_MAX;
}

/**
 * arch_last_fault() - what the thread last faulted for, out of a signal frame of a signal that was only sent
 *
 * The kernel keeps the number, error code and address of the last fault per thread and puts them into every signal
 * frame. So a handler of the program's own that sent the signal again has not hidden where it came from.
 *
 * Return:  whether the last fault fits @sig
 * Source:  Intel SDM volume 3, table 6-1
 */
static inline bool arch_last_fault(int sig, const uint64_t *regs, int *ret_code, uint64_t *ret_address)
{
	uint64_t trap = regs[ARCH_TRAP];

	*ret_address = regs[ARCH_PC];
	if (sig == SIGSEGV && trap == 14) {
		*ret_code = regs[ARCH_ERR] & 1 ? SEGV_ACCERR : SEGV_MAPERR;
		*ret_address = regs[ARCH_CR2];
	} else if (sig == SIGSEGV && trap == 13) {
		*ret_code = 0x80; /* SI_KERNEL */
	} else if (sig == SIGBUS && trap == 14) {
		*ret_code = BUS_ADRERR;
		*ret_address = regs[ARCH_CR2];
	} else if (sig == SIGFPE && trap == 0 && regs[ARCH_ERR] == 0) {
		*ret_code = FPE_INTDIV;
	} else if (sig == SIGILL && trap == 6) {
		*ret_code = ILL_ILLOPN;
	} else {
		return false;
	}
	return true;
}

/* Whether the instruction before @pc is a system call: a signal that comes there was not waiting for a handler to end. */
static inline bool arch_ends_with_syscall(const uint8_t *code)
{
	return code[6] == 0x0f && code[7] == 0x05;
}

/* What the faulting instruction wanted: 'r', 'w', 'x', or 0 when it is not known. Source: Intel SDM volume 3, 4.7 */
static inline char arch_fault_access(const uint64_t *regs)
{
	uint64_t e = regs[ARCH_ERR];

	if (e == UINT64_MAX)
		return 0;
	return e & 16 ? 'x' : e & 2 ? 'w' : 'r';
}

/* Bytes of a signal frame from the word looked at: return address, ucontext up to the segment registers. */
enum { ARCH_FRAME_BYTES = 8 + 40 + 23 * 8 };

/**
 * arch_saved_context() - does a kernel signal frame begin at @p?
 * @p:  ARCH_FRAME_BYTES bytes of stack, 8-byte aligned address
 *
 * Source:  struct rt_sigframe: pretcode, then struct ucontext (flags, link, stack, sigcontext)
 */
static inline bool arch_saved_context(const uint8_t *p, uint64_t *ret_pc, uint64_t *ret_sp)
{
	uint64_t flags, link, cs;

	memcpy(&flags, p + 8, 8);
	memcpy(&link, p + 16, 8);
	memcpy(&cs, p + 8 + 40 + 18 * 8, 8);
	if (flags > 15 || link || (cs & 0xffff) != 0x33)
		return false;
	memcpy(ret_pc, p + 8 + 40 + 16 * 8, 8);
	memcpy(ret_sp, p + 8 + 40 + 15 * 8, 8);
	return true;
}

/* Whether the instruction before @pc is a call; @code holds the 8 bytes before it. Source: Intel SDM volume 2, CALL */
static inline bool arch_ends_with_call(const uint8_t *code)
{
	static const int modrm_len[] = { 2, 3, 4, 6, 7 }; /* ff /2 with its operand bytes; a prefix may go before */

	if (code[3] == 0xe8)
		return true;
	for (size_t i = 0; i < sizeof(modrm_len) / sizeof(modrm_len[0]); i++) {
		const uint8_t *p = code + 8 - modrm_len[i];

		if (p[0] == 0xff && ((p[1] >> 3) & 7) == 2)
			return true;
	}
	return false;
}

/* Target of a direct call ending at @pc, or 0. */
static inline uint64_t arch_call_target(const uint8_t *code, uint64_t pc)
{
	int32_t off;

	if (code[3] != 0xe8)
		return 0;
	memcpy(&off, code + 4, 4);
	return pc + (uint64_t)(int64_t)off;
}
