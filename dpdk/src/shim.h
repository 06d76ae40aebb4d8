/*
 * The narrow part of DPDK that demikernel uses, with handles that are opaque to Rust.
 *
 * Everything on the data path of DPDK is `static inline`, so it is compiled here once. src/ffi.rs declares the same
 * functions and structures; whoever changes one changes the other.
 */
#ifndef DEMIKERNEL_DPDK_SHIM_H
#define DEMIKERNEL_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct rte_mempool;
struct rte_mbuf;

/* What a pool's packet buffers have behind their header: the owner of the memory that they point to. */
#define DK_OWNER_SIZE 16
/* Of an mbuf's header, behind which its owner's record is. */
#define DK_MBUF_SIZE 128

/* Free packet buffers of a pool, last in first out. Only its owner thread touches `count`, `settled` and `objects`. */
struct dk_stack {
	uint32_t count;
	/* Of the free ones, those that were looked at after they came back. */
	uint32_t settled;
	uint32_t capacity;
	/* Freed by other threads, behind `lock`. */
	uint32_t foreign_count;
	void **objects;
	void **foreign;
	/* Identifies the owner thread; see dk_thread. */
	const void *owner;
	uint32_t lock;
	/* Drivers only give back, and allocate nothing. */
	uint32_t closed;
};

/* One segment of a packet that was received. */
struct dk_segment_in {
	struct rte_mbuf *mbuf;
	const uint8_t *data;
	uint32_t length;
	/* DK_IN_* */
	uint32_t flags;
	uint32_t hash;
};

#define DK_IN_LAST (1u << 0)		/* of its packet */
#define DK_IN_OWN (1u << 1)		/* its memory is that of the pool's owner record */
#define DK_IN_IP_GOOD (1u << 2)
#define DK_IN_L4_GOOD (1u << 3)
#define DK_IN_HASH (1u << 4)
#define DK_IN_IP_BAD (1u << 5)
#define DK_IN_L4_BAD (1u << 6)

/* One segment of a packet that is to be sent. */
struct dk_segment_out {
	struct rte_mbuf *mbuf;
	const uint8_t *data;
	uint32_t length;
	/* DK_OUT_* */
	uint32_t flags;
	uint16_t l2_length;
	uint16_t l3_length;
	uint16_t l4_length;
	/* Of the segments that a port cuts; 0 if it does not cut. */
	uint16_t segment_size;
};

#define DK_OUT_LAST (1u << 0)		/* of its packet */
#define DK_OUT_IP_CHECKSUM (1u << 1)
#define DK_OUT_TCP_CHECKSUM (1u << 2)
#define DK_OUT_UDP_CHECKSUM (1u << 3)
#define DK_OUT_V6 (1u << 4)

/* How a port is. */
struct dk_port_info {
	char driver[64];
	uint8_t mac[6];
	uint16_t mtu;
	uint16_t max_mtu;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t max_segments;
	int32_t socket;
};

/* Offloads in terms that do not change with versions. */
#define DK_CAN_TX_IP_CHECKSUM (1u << 0)
#define DK_CAN_TX_TCP_CHECKSUM (1u << 1)
#define DK_CAN_TX_UDP_CHECKSUM (1u << 2)
#define DK_CAN_TX_TSO (1u << 3)
#define DK_CAN_TX_SEGMENTS (1u << 4)
#define DK_CAN_RX_IP_CHECKSUM (1u << 5)
#define DK_CAN_RX_L4_CHECKSUM (1u << 6)

/* What a port is configured with. */
struct dk_port_setup {
	uint16_t queues;
	uint16_t rx_descriptors;
	uint16_t tx_descriptors;
	uint16_t mtu;
	/* DK_CAN_* that are to be used. */
	uint32_t offloads;
	/* Of the hash that spreads flows over queues; as much of it as the device takes. NULL for the device's own. */
	const uint8_t *hash_key;
	uint32_t hash_key_length;
	/* Whether receive queues are to be able to interrupt. */
	uint32_t interrupts;
};

struct dk_link {
	uint32_t speed;
	uint8_t up;
	uint8_t full_duplex;
};

struct dk_counter {
	char name[64];
	uint64_t value;
};

typedef void (*dk_log_callback)(uint32_t level, const char *text, size_t length);
/* The link of a port has changed; called on a thread of DPDK's. */
typedef void (*dk_link_callback)(const char *port, uint8_t up, uint32_t speed);

/* EAL. Functions that return int return 0 or more, or a negative errno. */
int dk_eal_init(int argc, char **argv, dk_log_callback log, dk_link_callback link);
const char *dk_version(void);
int dk_has_huge_pages(void);
const void *dk_thread(void);

/* Memory that ports reach. */
void *dk_memory_allocate(size_t length, size_t alignment);
void dk_memory_free(void *memory);
int dk_memory_is_reachable(const void *memory);

/* Pools of packet buffers: to receive with `buffer_size` bytes each, or to send if that is 0. */
struct rte_mempool *dk_pool_create(const char *name, uint32_t count, uint32_t buffer_size, int32_t socket, struct dk_stack *stack);
void dk_pool_free(struct rte_mempool *pool);
void dk_mbuf_set_memory(struct rte_mbuf *mbuf, void *memory, uint32_t length);
void dk_mbuf_free(struct rte_mbuf *mbuf);
uint32_t dk_stack_take_foreign(struct dk_stack *stack);

/* Ports. */
int dk_port_probe(const char *devargs);
int dk_port_by_name(const char *name, uint16_t *port);
int dk_port_info(uint16_t port, struct dk_port_info *info, uint32_t *can);
int dk_port_configure(uint16_t port, struct dk_port_setup *setup);
int dk_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int32_t socket, struct rte_mempool *pool);
int dk_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int32_t socket);
int dk_port_start(uint16_t port, int promiscuous);
void dk_port_stop(uint16_t port);
void dk_port_close(uint16_t port);
int dk_port_is_memif(uint16_t port);
/* Calls on DPDK's thread for interrupts, later. Returns 0, or an error if it will not. */
int dk_interrupt_thread_call(void (*function)(void *), void *argument);
/* The table of queues by hash, if it is the hash of addresses and ports with this key: how many entries, or 0. */
int dk_port_redirection(uint16_t port, const uint8_t *hash_key, uint32_t length, uint16_t *table, uint32_t room);
int dk_port_link(uint16_t port, struct dk_link *link);
uint32_t dk_port_link_changes(uint16_t port);
/* Whether the link has been down for a second since the port was started or last restarted. */
int dk_port_is_down(uint16_t port);
int dk_port_restart(uint16_t port);
int dk_port_counters(uint16_t port, struct dk_counter *counters, int room);

/* Bursts. */
uint16_t dk_receive(uint16_t port, uint16_t queue, struct dk_segment_in *segments, uint16_t room, uint32_t *dropped,
		    const struct rte_mempool *pool);
uint16_t dk_transmit(uint16_t port, uint16_t queue, struct dk_segment_out *segments, uint16_t count, uint16_t *taken);

/*
 * Interrupts of a receive queue: a descriptor that is readable when one has come since it was armed, or when the port has
 * changed, which may have disarmed it. `close` comes before the port is stopped.
 */
struct dk_interrupt;
/* Returns the descriptor. */
int dk_interrupt_open(uint16_t port, uint16_t queue, struct dk_interrupt **opened);
void dk_interrupt_close(struct dk_interrupt *interrupt);
int dk_interrupt_arm(uint16_t port, uint16_t queue);
void dk_interrupt_disarm(uint16_t port, uint16_t queue);
int dk_interrupt_take(struct dk_interrupt *interrupt);

/* Frames without a stack, for comparison. Loops end when `*stop` is not 0. */
uint64_t dk_raw_echo(uint16_t port, uint16_t queue, const uint8_t *stop);
uint32_t dk_raw_ping(uint16_t port, uint16_t queue, struct rte_mempool *pool, uint16_t size, uint32_t *nanoseconds,
		     uint32_t count);
uint64_t dk_raw_flood(uint16_t port, uint16_t queue, struct rte_mempool *pool, uint16_t size, const uint8_t *stop);
uint64_t dk_raw_sink(uint16_t port, uint16_t queue, const uint8_t *stop);

#endif
