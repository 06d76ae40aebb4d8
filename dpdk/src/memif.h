/* Bursts on ports of memif, which keep what they use from being unmapped. See memif.c. */
#ifndef DEMIKERNEL_DPDK_MEMIF_H
#define DEMIKERNEL_DPDK_MEMIF_H

#include <rte_branch_prediction.h>
#include <rte_config.h>
#include <stdint.h>

/* Queues of a port that are guarded. */
#define DK_MEMIF_QUEUES 16

/* Whether a thread is in a burst; on a cache line of its own. */
struct dk_memif_burst {
	uint8_t on;
} __attribute__((aligned(64)));

extern uint8_t dk_memif_guarded[RTE_MAX_ETHPORTS];
extern struct dk_memif_burst dk_memif_bursts[RTE_MAX_ETHPORTS][DK_MEMIF_QUEUES];

/* Called before the first port is made. Returns whether bursts of ports that are guarded are safe from now on. */
int dk_memif_guard(void);

static inline void dk_memif_set(uint16_t port, uint16_t queue, uint8_t on)
{
	if (dk_memif_guarded[port] && likely(queue < DK_MEMIF_QUEUES)) {
		__atomic_store_n(&dk_memif_bursts[port][queue].on, on, __ATOMIC_RELEASE);
		/* The compiler moves nothing over it; for the processor see `unmap`. */
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	}
}

#endif
