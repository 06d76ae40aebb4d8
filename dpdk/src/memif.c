/*
 * What the driver of memif leaves undone.
 *
 * It unmaps the shared memory on DPDK's thread for interrupts, as soon as the peer has gone, though another
 * thread may be in the midst of a burst there. So its call of munmap is led through here and waits for bursts that go
 * on; later ones find that the port is not connected. Threads pay two plain stores a burst for that: what orders them is
 * membarrier(2), on the other side.
 *
 * And it frees what it knows of a socket when the last of its ports is closed, but neither closes the socket nor takes
 * back its callback. So its call of rte_free is led through here as well, and does both for what it listened on.
 */
#define _GNU_SOURCE
/* Handles of interrupts. */
#define ALLOW_EXPERIMENTAL_API
#include <elf.h>
#include <link.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_interrupts.h>
#include <rte_malloc.h>

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

/* Sockets that the driver listens on; those beyond are left to it. */
static struct listener {
	/* What the driver calls it; null if the place is free. */
	void *socket;
	rte_intr_callback_fn callback;
	int descriptor;
} listeners[64];
static pthread_mutex_t listeners_lock = PTHREAD_MUTEX_INITIALIZER;

/* The place of a socket, or a free one for null. Called with the lock. */
static struct listener *find_listener(const void *socket)
{
	for (size_t i = 0; i < sizeof listeners / sizeof *listeners; i++)
		if (listeners[i].socket == socket)
			return &listeners[i];
	return NULL;
}

static int register_callback(const struct rte_intr_handle *handle, rte_intr_callback_fn callback, void *argument)
{
	int result = rte_intr_callback_register(handle, callback, argument);
	int descriptor = rte_intr_fd_get(handle), listens = 0;
	socklen_t length = sizeof listens;

	if (result == 0 && getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens) {
		pthread_mutex_lock(&listeners_lock);
		struct listener *place = find_listener(NULL);

		if (place != NULL)
			*place = (struct listener){ argument, callback, descriptor };
		pthread_mutex_unlock(&listeners_lock);
	}
	return result;
}

static void stop_listening(const struct listener *listener)
{
	struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);

	/* Handles are told apart by their descriptors. */
	if (handle != NULL && rte_intr_fd_set(handle, listener->descriptor) == 0 &&
	    rte_intr_callback_unregister_sync(handle, listener->callback, listener->socket) > 0)
		close(listener->descriptor);
	rte_intr_instance_free(handle);
}

static void free_memory(void *memory)
{
	struct listener listener = { 0 };

	if (memory != NULL) {
		pthread_mutex_lock(&listeners_lock);
		struct listener *known = find_listener(memory);

		if (known != NULL) {
			listener = *known;
			*known = (struct listener){ 0 };
		}
		pthread_mutex_unlock(&listeners_lock);
	}
	if (listener.socket != NULL)
		stop_listening(&listener);
	rte_free(memory);
}

static const struct {
	const char *name;
	void *function;
} replacements[] = {
	{ "munmap", (void *)unmap },
	{ "rte_intr_callback_register", (void *)register_callback },
	{ "rte_free", (void *)free_memory },
};

static void *replacement(const char *name)
{
	for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++)
		if (strcmp(name, replacements[i].name) == 0)
			return replacements[i].function;
	return NULL;
}

/* Entries of the dynamic section are addresses, or relative to where the library is. */
static const void *at(const struct dl_phdr_info *library, ElfW(Addr) value)
{
	return (const void *)(value < library->dlpi_addr ? library->dlpi_addr + value : value);
}

/* Has a library call the replacements. Returns how many it calls now. */
static int redirect(const struct dl_phdr_info *library, const ElfW(Dyn) *dynamic)
{
	const ElfW(Rela) *relocations = NULL;
	const ElfW(Sym) *symbols = NULL;
	const char *names = NULL;
	size_t size = 0, page = (size_t)sysconf(_SC_PAGESIZE);
	int count = 0;

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
		void *function = replacement(names + symbol->st_name);

		if (function == NULL)
			continue;
		/* Made read-only when the library was loaded. */
		if (mprotect(first, page, PROT_READ | PROT_WRITE) != 0)
			return count;
		__atomic_store_n(place, function, __ATOMIC_RELEASE);
		mprotect(first, page, PROT_READ);
		count++;
	}
	return count;
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

int dk_memif_guard(void)
{
	/* Ports are made one at a time. */
	static int is_redirected;

	if (!is_redirected) {
		if (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0)
			return 0;
		is_redirected = dl_iterate_phdr(look, NULL) == (int)(sizeof replacements / sizeof *replacements);
	}
	return is_redirected;
}
