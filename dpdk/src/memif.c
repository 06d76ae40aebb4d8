/*
 * Memory of a memif peer that vanishes.
 *
 * The driver unmaps the shared memory on DPDK's thread for interrupts, as soon as the peer has gone, though another
 * thread may be in the midst of a burst there. So its call of munmap is led through here and waits for bursts that go
 * on; later ones find that the port is not connected. Threads pay two plain stores a burst for that: what orders them is
 * membarrier(2), on the other side.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memif.h"

#define DRIVER "librte_net_memif"

uint8_t dk_memif_guarded[RTE_MAX_ETHPORTS];
struct dk_memif_burst dk_memif_bursts[RTE_MAX_ETHPORTS][DK_MEMIF_QUEUES];

static int barrier(int command)
{
	return (int)syscall(__NR_membarrier, command, 0, 0);
}

static int unmap(void *memory, size_t length)
{
	/* Who is about to begin a burst sees now that the port is not connected, or is seen. */
	barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	for (unsigned int port = 0; port < RTE_MAX_ETHPORTS; port++)
		for (unsigned int queue = 0; queue < DK_MEMIF_QUEUES; queue++)
			while (__atomic_load_n(&dk_memif_bursts[port][queue].on, __ATOMIC_ACQUIRE))
				sched_yield();
	return munmap(memory, length);
}

/* Entries of the dynamic section are addresses, or relative to where the library is. */
static const void *at(const struct dl_phdr_info *library, ElfW(Addr) value)
{
	return (const void *)(value < library->dlpi_addr ? library->dlpi_addr + value : value);
}

/* Has a library call `unmap` for munmap. */
static int redirect(const struct dl_phdr_info *library, const ElfW(Dyn) *dynamic)
{
	const ElfW(Rela) *relocations = NULL;
	const ElfW(Sym) *symbols = NULL;
	const char *names = NULL;
	size_t size = 0, page = (size_t)sysconf(_SC_PAGESIZE);

	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		if (dynamic->d_tag == DT_JMPREL)
			relocations = at(library, dynamic->d_un.d_ptr);
		else if (dynamic->d_tag == DT_PLTRELSZ)
			size = dynamic->d_un.d_val;
		else if (dynamic->d_tag == DT_SYMTAB)
			symbols = at(library, dynamic->d_un.d_ptr);
		else if (dynamic->d_tag == DT_STRTAB)
			names = at(library, dynamic->d_un.d_ptr);
	}
	if (relocations == NULL || symbols == NULL || names == NULL)
		return 0;
	for (size_t i = 0; i < size / sizeof *relocations; i++) {
		const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(relocations[i].r_info)];
		void **place = (void **)(library->dlpi_addr + relocations[i].r_offset);
		void *first = (void *)((uintptr_t)place & ~(page - 1));

		if (strcmp(names + symbol->st_name, "munmap") != 0)
			continue;
		/* Made read-only when the library was loaded. */
		if (mprotect(first, page, PROT_READ | PROT_WRITE) != 0)
			return 0;
		__atomic_store_n(place, (void *)unmap, __ATOMIC_RELEASE);
		mprotect(first, page, PROT_READ);
		return 1;
	}
	return 0;
}

static int look(struct dl_phdr_info *library, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	if (library->dlpi_name == NULL || strstr(library->dlpi_name, DRIVER) == NULL)
		return 0;
	for (int i = 0; i < library->dlpi_phnum; i++)
		if (library->dlpi_phdr[i].p_type == PT_DYNAMIC)
			return redirect(library, (const void *)(library->dlpi_addr + library->dlpi_phdr[i].p_vaddr));
	return 0;
}

int dk_memif_guard(uint16_t port)
{
	/* Ports are started one at a time. */
	static int is_redirected;

	if (!is_redirected) {
		if (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0)
			return 0;
		is_redirected = dl_iterate_phdr(look, NULL);
	}
	dk_memif_guarded[port] = (uint8_t)is_redirected;
	return is_redirected;
}
