/* SPDX-License-Identifier: Apache-2.0 */
/* What depends on AArch64; see arch_x86_64.h. DWARF numbering: x0..x30, sp, pc (AADWARF64). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>
#include <sys/user.h>

enum {
	ARCH_ID = 183, /* EM_AARCH64 */
	ARCH_PC = 32,
	ARCH_SP = 31,
	ARCH_FP = 29,
	ARCH_PSTATE = 33,
	ARCH_REGS = 34,
	ARCH_RED_ZONE = 0,
};

/* From the stack pointer in the trampoline to the siginfo of the signal. Source: struct rt_sigframe */
#define ARCH_FRAME_SIGINFO 0

#define ARCH_REG_NAMES                                                                                       \
	{ "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",     \
		"x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",   \
		"x28", "x29", "x30", "sp", "pc", "pstate" }

static inline long arch_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

/* The kernel's own trampoline in the vdso is used: no restorer. */
#define ARCH_SA_RESTORER 0ul
#define ARCH_DEFINE_RESTORER(name)                                                                           \
	__attribute__((unused)) static void name(void)                                                       \
	{                                                                                                    \
	}                                                                                                    \
	struct arch_restorer_unused

enum { ARCH_TRAMPOLINE_BYTES = 8 };

static inline bool arch_is_trampoline(const uint8_t *code)
{
	static const uint8_t bytes[ARCH_TRAMPOLINE_BYTES] = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 };

	for (int i = 0; i < ARCH_TRAMPOLINE_BYTES; i++)
		if (code[i] != bytes[i])
			return false;
	return true;
}

static inline void arch_regs_from_ucontext(uint64_t *regs, const ucontext_t *uc)
{
	for (int i = 0; i < 31; i++)
		regs[i] = uc->uc_mcontext.regs[i];
	regs[31] = uc->uc_mcontext.sp;
	regs[32] = uc->uc_mcontext.pc;
	regs[33] = uc->uc_mcontext.pstate;
}

static inline void arch_set_return(ucontext_t *uc, long value)
{
	uc->uc_mcontext.regs[0] = (unsigned long long)value;
}

static inline void arch_regs_from_ptrace(uint64_t *regs, const struct user_regs_struct *u)
{
	for (int i = 0; i < 31; i++)
		regs[i] = u->regs[i];
	regs[31] = u->sp;
	regs[32] = u->pc;
	regs[33] = u->pstate;
}

static inline bool arch_last_fault(int sig, const uint64_t *regs, int *ret_code, uint64_t *ret_address)
{
	(void)sig;
	(void)regs;
	(void)ret_code;
	(void)ret_address;
	return false; /* fault_address alone does not say what it was for */
}

static inline bool arch_ends_with_syscall(const uint8_t *code)
{
	uint32_t insn;

	memcpy(&insn, code + 4, 4);
	return insn == 0xd4000001u;
}

static inline char arch_fault_access(const uint64_t *regs)
{
	(void)regs;
	return 0; /* in the syndrome register, which the basic signal frame does not have */
}

/* struct rt_sigframe: siginfo (128 bytes), then struct ucontext; its sigcontext is 16-byte aligned at 176 */
enum { ARCH_FRAME_BYTES = 128 + 176 + 8 + 34 * 8 };

static inline bool arch_saved_context(const uint8_t *p, uint64_t *ret_pc, uint64_t *ret_sp)
{
	uint64_t flags, link, pstate;

	memcpy(&flags, p + 128, 8);
	memcpy(&link, p + 136, 8);
	memcpy(&pstate, p + 128 + 176 + 8 + 33 * 8, 8);
	if (flags || link || (pstate & 0x1f) || pstate >> 32)
		return false;
	memcpy(ret_pc, p + 128 + 176 + 8 + 32 * 8, 8);
	memcpy(ret_sp, p + 128 + 176 + 8 + 31 * 8, 8);
	return true;
}

/* BL or BLR ends at @code + 8. Source: Arm ARM, C6.2 */
static inline bool arch_ends_with_call(const uint8_t *code)
{
	uint32_t insn;

	memcpy(&insn, code + 4, 4);
	return (insn & 0xfc000000u) == 0x94000000u || (insn & 0xfffffc1fu) == 0xd63f0000u;
}

static inline uint64_t arch_call_target(const uint8_t *code, uint64_t pc)
{
	uint32_t insn;

	memcpy(&insn, code + 4, 4);
	if ((insn & 0xfc000000u) != 0x94000000u)
		return 0;
	return pc - 4 + (uint64_t)(((int64_t)(int32_t)(insn << 6) >> 6) * 4);
}
