// fpstate.so lets user-mode-linux 6.1 run on processors with AMX.
//
// UML saves and restores its processes' registers with a buffer of fixed size that is
// smaller than the extended state of such a processor. Reading into it works; writing it
// back does not: since Linux 5.14, PTRACE_SETREGSET takes a whole extended state or
// nothing. So a short write is completed here with what the process has in the rest,
// and is then as long as the processor's state. Preloaded by guest.sh.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static long (*libc_ptrace)(enum __ptrace_request, ...);

__attribute__((constructor)) static void find(void)
{
	libc_ptrace = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...)
{
	// One buffer will do: UML 6.1 is one thread.
	static char state[64 << 10] __attribute__((aligned(64)));

	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *address = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);

	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
		struct iovec whole = {state, sizeof state}, *given = data;
		if (libc_ptrace(PTRACE_GETREGSET, pid, address, &whole) == 0 && given->iov_len < whole.iov_len) {
			memcpy(state, given->iov_base, given->iov_len);
			return libc_ptrace(PTRACE_SETREGSET, pid, address, &whole);
		}
	}
	return libc_ptrace(request, pid, address, data);
}
