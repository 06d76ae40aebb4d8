/* See shim.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <rte_string_fns.h>
#include <rte_version.h>

#include "memif.h"
#include "shim.h"

#define BURST 32

/* Ours alone: the address of a variable that each thread has. */
static __thread char thread_marker;

const void *dk_thread(void)
{
	return &thread_marker;
}

/* EAL */

static dk_log_callback log_callback;
static dk_link_callback link_callback;

/* Whether devices use physical addresses: it stays as it is, and is asked for each packet. */
static int is_physical;

static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_callback(level < 0 ? RTE_LOG_NOTICE : (uint32_t)level, text, length);
	return (ssize_t)length;
}

int dk_eal_init(int argc, char **argv, dk_log_callback log, dk_link_callback link)
{
	static const cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -ENOMEM;
	log_callback = log;
	link_callback = link;
	/* A message is one write, made while its level can be asked for. */
	setvbuf(stream, NULL, _IOFBF, 4096);
	rte_openlog_stream(stream);
	if (rte_eal_init(argc, argv) < 0)
		return -(rte_errno ? rte_errno : EINVAL);
	is_physical = rte_eal_iova_mode() == RTE_IOVA_PA;
	return 0;
}

const char *dk_version(void)
{
	return rte_version();
}

int dk_has_huge_pages(void)
{
	return rte_eal_has_hugepages();
}

/* Memory */

void *dk_memory_allocate(size_t length, size_t alignment)
{
	return rte_zmalloc("demikernel", length, (unsigned int)alignment);
}

void dk_memory_free(void *memory)
{
	rte_free(memory);
}

int dk_memory_is_reachable(const void *memory)
{
	return rte_mem_virt2memseg_list(memory) != NULL;
}

/* Pools: the operations of rte_mempool_ops over a dk_stack */

static int stack_alloc(struct rte_mempool *pool)
{
	pool->pool_data = pool->pool_config;
	return 0;
}

static void stack_free(struct rte_mempool *pool)
{
	(void)pool;
}

static void lock(struct dk_stack *stack)
{
	while (__atomic_exchange_n(&stack->lock, 1, __ATOMIC_ACQUIRE))
		rte_pause();
}

static void unlock(struct dk_stack *stack)
{
	__atomic_store_n(&stack->lock, 0, __ATOMIC_RELEASE);
}

/* There are no more objects than either list has room for. */
static int stack_enqueue(struct rte_mempool *pool, void *const *objects, unsigned int count)
{
	struct dk_stack *stack = pool->pool_data;

	if (likely(__atomic_load_n(&stack->owner, __ATOMIC_RELAXED) == &thread_marker)) {
		for (unsigned int i = 0; i < count; i++)
			stack->objects[stack->count++] = objects[i];
		return 0;
	}
	lock(stack);
	for (unsigned int i = 0; i < count; i++)
		stack->foreign[stack->foreign_count + i] = objects[i];
	__atomic_store_n(&stack->foreign_count, stack->foreign_count + count, __ATOMIC_RELAXED);
	unlock(stack);
	return 0;
}

uint32_t dk_stack_take_foreign(struct dk_stack *stack)
{
	uint32_t count;

	if (__atomic_load_n(&stack->foreign_count, __ATOMIC_RELAXED) == 0)
		return 0;
	lock(stack);
	count = stack->foreign_count;
	memcpy(&stack->objects[stack->count], stack->foreign, count * sizeof(void *));
	stack->count += count;
	__atomic_store_n(&stack->foreign_count, 0, __ATOMIC_RELAXED);
	unlock(stack);
	return count;
}

static int stack_dequeue(struct rte_mempool *pool, void **objects, unsigned int count)
{
	struct dk_stack *stack = pool->pool_data;
	int result = 0;

	if (unlikely(stack->closed))
		return -ENOBUFS;
	if (likely(__atomic_load_n(&stack->owner, __ATOMIC_RELAXED) == &thread_marker)) {
		if (unlikely(stack->count < count))
			dk_stack_take_foreign(stack);
		if (unlikely(stack->count < count))
			return -ENOBUFS;
		for (unsigned int i = 0; i < count; i++)
			objects[i] = stack->objects[--stack->count];
		if (stack->settled > stack->count)
			stack->settled = stack->count;
		return 0;
	}
	lock(stack);
	if (stack->foreign_count < count) {
		result = -ENOBUFS;
	} else {
		uint32_t left = stack->foreign_count - count;

		memcpy(objects, &stack->foreign[left], count * sizeof(void *));
		__atomic_store_n(&stack->foreign_count, left, __ATOMIC_RELAXED);
	}
	unlock(stack);
	return result;
}

static unsigned int stack_count(const struct rte_mempool *pool)
{
	const struct dk_stack *stack = pool->pool_data;

	return stack->count + __atomic_load_n(&stack->foreign_count, __ATOMIC_RELAXED);
}

static const struct rte_mempool_ops stack_ops = {
	.name = "demikernel",
	.alloc = stack_alloc,
	.free = stack_free,
	.enqueue = stack_enqueue,
	.dequeue = stack_dequeue,
	.get_count = stack_count,
};

RTE_MEMPOOL_REGISTER_OPS(stack_ops);

/* The last of those that a driver has attached to a pinned buffer is freed. */
static void free_pinned(void *memory, void *opaque)
{
	struct rte_mbuf *mbuf = opaque;

	(void)memory;
	rte_mbuf_ext_refcnt_set(mbuf->shinfo, 1);
	mbuf->next = NULL;
	mbuf->nb_segs = 1;
	rte_mbuf_raw_free(mbuf);
}

static void init_mbuf(struct rte_mempool *pool, void *unused, void *object, unsigned int index)
{
	struct rte_mbuf *mbuf = object;
	const struct rte_pktmbuf_pool_private *private = rte_mempool_get_priv(pool);

	(void)unused;
	(void)index;
	memset(mbuf, 0, pool->elt_size);
	mbuf->pool = pool;
	mbuf->priv_size = private->mbuf_priv_size;
	if (private->flags & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF) {
		mbuf->shinfo = RTE_PTR_ADD(rte_mbuf_to_priv(mbuf), DK_OWNER_SIZE);
		mbuf->shinfo->free_cb = free_pinned;
		mbuf->shinfo->fcb_opaque = mbuf;
		rte_mbuf_ext_refcnt_set(mbuf->shinfo, 1);
		mbuf->ol_flags = RTE_MBUF_F_EXTERNAL;
	}
	mbuf->nb_segs = 1;
	mbuf->port = RTE_MBUF_PORT_INVALID;
	rte_mbuf_refcnt_set(mbuf, 1);
}

struct rte_mempool *dk_pool_create(const char *name, uint32_t count, uint32_t buffer_size, int32_t socket, struct dk_stack *stack)
{
	/*
	 * What is sent is external memory, pinned to its mbuf: drivers write nothing in front of it, find the mbuf of it
	 * by more than arithmetic when they attach others to it, and the mbuf comes back after those. What is received
	 * is not marked so, as many drivers clear the mark, and leaves with its memory at once.
	 */
	const int pinned = buffer_size == 0;
	struct rte_pktmbuf_pool_private private = {
		.mbuf_data_room_size = (uint16_t)buffer_size,
		.mbuf_priv_size = DK_OWNER_SIZE + (pinned ? sizeof(struct rte_mbuf_ext_shared_info) : 0),
		.flags = pinned ? RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF : 0,
	};
	struct rte_mempool *pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + private.mbuf_priv_size,
							    0, sizeof private, socket, 0);

	if (pool == NULL)
		return NULL;
	if (rte_mempool_set_ops_byname(pool, stack_ops.name, stack) != 0) {
		rte_mempool_free(pool);
		return NULL;
	}
	memcpy(rte_mempool_get_priv(pool), &private, sizeof private);
	if (rte_mempool_populate_default(pool) != (int)count) {
		rte_mempool_free(pool);
		return NULL;
	}
	rte_mempool_obj_iter(pool, init_mbuf, NULL);
	return pool;
}

void dk_pool_free(struct rte_mempool *pool)
{
	rte_mempool_free(pool);
}

_Static_assert(sizeof(struct rte_mbuf) == DK_MBUF_SIZE, "rte_mbuf_to_priv: what is behind the header");

/* Where a device finds the memory: of EAL's, without asking the kernel as rte_mem_virt2iova does. */
static inline rte_iova_t iova_of(const void *memory)
{
	static __thread const struct rte_memseg_list *list;
	const struct rte_memseg *segment;

	if (likely(!is_physical))
		return (rte_iova_t)(uintptr_t)memory;
	if (list == NULL || memory < list->base_va || memory >= RTE_PTR_ADD(list->base_va, list->len))
		list = rte_mem_virt2memseg_list(memory);
	segment = list == NULL ? NULL : rte_mem_virt2memseg(memory, list);
	/* Drivers that copy never look at it. */
	return segment == NULL ? RTE_BAD_IOVA : segment->iova + RTE_PTR_DIFF(memory, segment->addr);
}

static inline void set_memory(struct rte_mbuf *mbuf, void *memory, uint16_t length)
{
	mbuf->buf_addr = memory;
	mbuf->buf_len = length;
	rte_mbuf_iova_set(mbuf, iova_of(memory));
}

void dk_mbuf_set_memory(struct rte_mbuf *mbuf, void *memory, uint32_t length)
{
	set_memory(mbuf, memory, (uint16_t)length);
}

void dk_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

/* Ports */

int dk_port_probe(const char *devargs)
{
	if (strncmp(devargs, "net_memif", strlen("net_memif")) == 0)
		dk_memif_guard();
	return rte_dev_probe(devargs);
}

int dk_port_by_name(const char *name, uint16_t *port)
{
	return rte_eth_dev_get_port_by_name(name, port);
}

/* In the order of the bits of DK_CAN_TX_* and DK_CAN_RX_*. */
static const struct {
	uint32_t can;
	uint64_t transmit;
	uint64_t receive;
} offloads[] = {
	{ DK_CAN_TX_IP_CHECKSUM, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, 0 },
	{ DK_CAN_TX_TCP_CHECKSUM, RTE_ETH_TX_OFFLOAD_TCP_CKSUM, 0 },
	{ DK_CAN_TX_UDP_CHECKSUM, RTE_ETH_TX_OFFLOAD_UDP_CKSUM, 0 },
	{ DK_CAN_TX_TSO, RTE_ETH_TX_OFFLOAD_TCP_TSO, 0 },
	{ DK_CAN_TX_SEGMENTS, RTE_ETH_TX_OFFLOAD_MULTI_SEGS, 0 },
	{ DK_CAN_RX_IP_CHECKSUM, 0, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM },
	{ DK_CAN_RX_L4_CHECKSUM, 0, RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM },
};

int dk_port_info(uint16_t port, struct dk_port_info *info, uint32_t *can)
{
	struct rte_eth_dev_info device;
	struct rte_ether_addr mac;
	int result = rte_eth_dev_info_get(port, &device);

	if (result != 0)
		return result;
	memset(info, 0, sizeof *info);
	snprintf(info->driver, sizeof info->driver, "%s", device.driver_name);
	result = rte_eth_macaddr_get(port, &mac);
	if (result != 0)
		return result;
	memcpy(info->mac, mac.addr_bytes, sizeof info->mac);
	result = rte_eth_dev_get_mtu(port, &info->mtu);
	if (result != 0)
		return result;
	info->max_mtu = device.max_mtu;
	info->max_rx_queues = device.max_rx_queues;
	info->max_tx_queues = device.max_tx_queues;
	info->max_segments = device.tx_desc_lim.nb_mtu_seg_max ? device.tx_desc_lim.nb_mtu_seg_max : 32;
	info->socket = rte_eth_dev_socket_id(port);
	*can = 0;
	for (size_t i = 0; i < RTE_DIM(offloads); i++) {
		uint64_t transmit = offloads[i].transmit, receive = offloads[i].receive;

		if ((device.tx_offload_capa & transmit) == transmit && (device.rx_offload_capa & receive) == receive)
			*can |= offloads[i].can;
	}
	return 0;
}

/* Those that do not say have the one that the specification of the hash has. */
static uint8_t hash_key_length(const struct rte_eth_dev_info *device)
{
	return device->hash_key_size != 0 ? device->hash_key_size : 40;
}

int dk_port_configure(uint16_t port, struct dk_port_setup *setup)
{
	struct rte_eth_dev_info device;
	struct rte_eth_conf conf;
	int result = rte_eth_dev_info_get(port, &device);

	if (result != 0)
		return result;
	memset(&conf, 0, sizeof conf);
	conf.rxmode.mtu = setup->mtu;
	for (size_t i = 0; i < RTE_DIM(offloads); i++) {
		if (setup->offloads & offloads[i].can) {
			conf.txmode.offloads |= offloads[i].transmit;
			conf.rxmode.offloads |= offloads[i].receive;
		}
	}
	conf.intr_conf.rxq = setup->interrupts != 0;
	/* With the device's own table. */
	if (setup->queues > 1 && device.flow_type_rss_offloads != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			device.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
		if (setup->hash_key != NULL && hash_key_length(&device) <= setup->hash_key_length) {
			/* Not written to. */
			conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)setup->hash_key;
			conf.rx_adv_conf.rss_conf.rss_key_len = hash_key_length(&device);
		}
	}
	result = rte_eth_dev_configure(port, setup->queues, setup->queues, &conf);
	if (result != 0 && conf.rx_adv_conf.rss_conf.rss_key != NULL) {
		/* The device insists on its own key: then flows come to other queues than those they belong to. */
		conf.rx_adv_conf.rss_conf.rss_key = NULL;
		conf.rx_adv_conf.rss_conf.rss_key_len = 0;
		result = rte_eth_dev_configure(port, setup->queues, setup->queues, &conf);
	}
	if (result != 0)
		return result;
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, &setup->rx_descriptors, &setup->tx_descriptors);
}

int dk_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int32_t socket, struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors, (unsigned int)socket, NULL, pool);
}

int dk_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int32_t socket)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors, (unsigned int)socket, NULL);
}

/* What is known of the links of ports that have started. DPDK's thread for interrupts writes, others read. */
static struct {
	uint32_t changes;
	/* Looks at it since it is down. */
	uint32_t down;
	uint8_t up;
} links[RTE_MAX_ETHPORTS];

/* How often links are looked at, in microseconds: not every device interrupts when they change. */
#define LINK_PERIOD 250000

static void look_at_link(void *argument)
{
	uint16_t port = (uint16_t)(uintptr_t)argument;
	struct rte_eth_link link = { 0 };
	char name[RTE_ETH_NAME_MAX_LEN];

	if (rte_eth_link_get_nowait(port, &link) == 0 && link.link_status != links[port].up) {
		links[port].up = link.link_status;
		__atomic_fetch_add(&links[port].changes, 1, __ATOMIC_RELAXED);
		if (rte_eth_dev_get_name_by_port(port, name) == 0)
			link_callback(name, links[port].up, link.link_speed);
	}
	if (links[port].up)
		__atomic_store_n(&links[port].down, 0, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&links[port].down, 1, __ATOMIC_RELAXED);
	rte_eal_alarm_set(LINK_PERIOD, look_at_link, argument);
}

uint32_t dk_port_link_changes(uint16_t port)
{
	return __atomic_load_n(&links[port].changes, __ATOMIC_RELAXED);
}

int dk_port_is_down(uint16_t port)
{
	return __atomic_load_n(&links[port].down, __ATOMIC_RELAXED) > 1000000 / LINK_PERIOD;
}

int dk_port_restart(uint16_t port)
{
	__atomic_store_n(&links[port].down, 0, __ATOMIC_RELAXED);
	rte_eth_dev_stop(port);
	return rte_eth_dev_start(port);
}

int dk_port_is_memif(uint16_t port)
{
	struct rte_eth_dev_info device;

	return rte_eth_dev_info_get(port, &device) == 0 && strcmp(device.driver_name, "net_memif") == 0;
}

int dk_port_start(uint16_t port, int promiscuous)
{
	int result;

	if (dk_port_is_memif(port)) {
		dk_memif_guarded[port] = (uint8_t)dk_memif_guard();
		if (!dk_memif_guarded[port])
			RTE_LOG(WARNING, USER1, "%u: a peer that vanishes while packets are under way may crash this process\n",
				port);
	}
	result = rte_eth_dev_start(port);

	if (result != 0)
		return result;
	/* Devices without a filter take everything anyway. */
	if (promiscuous)
		rte_eth_promiscuous_enable(port);
	else
		rte_eth_promiscuous_disable(port);
	/* Groups of IPv4 and IPv6, neighbour discovery among them, are sorted out by the stack. */
	rte_eth_allmulticast_enable(port);
	links[port].up = 0;
	links[port].changes = 0;
	links[port].down = 0;
	rte_eal_alarm_set(1, look_at_link, (void *)(uintptr_t)port);
	return 0;
}

int dk_port_redirection(uint16_t port, const uint8_t *hash_key, uint32_t length, uint16_t *table, uint32_t room)
{
	struct rte_eth_rss_reta_entry64 entries[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
	const uint64_t wanted = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
	struct rte_eth_dev_info device;
	struct rte_eth_rss_conf conf;
	uint8_t key[128];

	if (rte_eth_dev_info_get(port, &device) != 0 || hash_key_length(&device) > RTE_MIN(length, sizeof key))
		return 0;
	if (device.reta_size == 0 || device.reta_size > room || device.reta_size > RTE_ETH_RSS_RETA_SIZE_512)
		return 0;
	/* Some drivers do not look at what a port is configured with. */
	memset(&conf, 0, sizeof conf);
	memcpy(key, hash_key, hash_key_length(&device));
	conf.rss_key = key;
	conf.rss_key_len = hash_key_length(&device);
	conf.rss_hf = device.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	(void)rte_eth_dev_rss_hash_update(port, &conf);
	memset(key, 0, sizeof key);
	conf.rss_key_len = sizeof key;
	if (rte_eth_dev_rss_hash_conf_get(port, &conf) != 0 || (conf.rss_hf & wanted) != wanted)
		return 0;
	if (memcmp(key, hash_key, hash_key_length(&device)) != 0)
		return 0;
	memset(entries, 0, sizeof entries);
	for (uint16_t i = 0; i < device.reta_size; i++) {
		entries[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << i % RTE_ETH_RETA_GROUP_SIZE;
		entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % device.nb_rx_queues;
	}
	/* Of a device that keeps its own table, that one counts. */
	(void)rte_eth_dev_rss_reta_update(port, entries, device.reta_size);
	if (rte_eth_dev_rss_reta_query(port, entries, device.reta_size) != 0)
		return 0;
	for (uint16_t i = 0; i < device.reta_size; i++)
		table[i] = entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	return device.reta_size;
}

void dk_port_stop(uint16_t port)
{
	/* Waits for one that runs. */
	rte_eal_alarm_cancel(look_at_link, (void *)(uintptr_t)port);
	rte_eth_dev_stop(port);
}

void dk_port_close(uint16_t port)
{
	struct rte_eth_dev_info device;
	struct rte_device *bus_device = NULL;

	if (rte_eth_dev_info_get(port, &device) == 0)
		bus_device = device.device;
	rte_eth_dev_close(port);
	dk_memif_guarded[port] = 0;
	/* So that the same name can be probed again. */
	if (bus_device != NULL)
		rte_dev_remove(bus_device);
}

int dk_interrupt_thread_call(void (*function)(void *), void *argument)
{
	return rte_eal_alarm_set(1, function, argument);
}

int dk_port_link(uint16_t port, struct dk_link *link)
{
	struct rte_eth_link state;
	int result;

	memset(&state, 0, sizeof state);
	result = rte_eth_link_get_nowait(port, &state);
	link->speed = state.link_speed;
	link->up = state.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = state.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return result;
}

int dk_port_counters(uint16_t port, struct dk_counter *counters, int room)
{
	struct rte_eth_xstat_name names[256];
	struct rte_eth_xstat values[256];
	int count = rte_eth_xstats_get_names(port, names, RTE_DIM(names));

	if (count < 0 || count > (int)RTE_DIM(names) || rte_eth_xstats_get(port, values, RTE_DIM(values)) != count)
		return 0;
	if (count > room)
		count = room;
	for (int i = 0; i < count; i++) {
		rte_strscpy(counters[i].name, names[i].name, sizeof counters[i].name);
		counters[i].value = values[i].value;
	}
	return count;
}

/* Interrupts: DPDK's own epoll, as what is to be read from each kind of descriptor is known to DPDK alone */

struct dk_interrupt {
	uint16_t port, queue;
	/* An epoll of DPDK's. */
	int descriptor;
	/* Counts changes of the port, on which drivers forget that interrupts are on. */
	int changes;
	struct rte_epoll_event change;
};

/* As vhost does, whose device is another one with each peer that comes. */
static const enum rte_eth_event_type changing[] = { RTE_ETH_EVENT_INTR_LSC, RTE_ETH_EVENT_QUEUE_STATE };

static int note_change(uint16_t port, enum rte_eth_event_type type, void *argument, void *unused)
{
	const struct dk_interrupt *interrupt = argument;

	(void)port;
	(void)type;
	(void)unused;
	return eventfd_write(interrupt->changes, 1);
}

static void take_change(int descriptor, void *unused)
{
	eventfd_t count;

	(void)unused;
	(void)eventfd_read(descriptor, &count);
}

static void forget_changes(struct dk_interrupt *interrupt)
{
	for (size_t i = 0; i < RTE_DIM(changing); i++)
		/* Until it is called no more. */
		while (rte_eth_dev_callback_unregister(interrupt->port, changing[i], note_change, interrupt) == -EAGAIN)
			sched_yield();
}

static int watch_changes(struct dk_interrupt *interrupt)
{
	interrupt->changes = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (interrupt->changes < 0)
		return -errno;
	interrupt->change.epdata.event = EPOLLIN;
	interrupt->change.epdata.cb_fun = take_change;
	if (rte_epoll_ctl(interrupt->descriptor, EPOLL_CTL_ADD, interrupt->changes, &interrupt->change) != 0)
		return -EINVAL;
	for (size_t i = 0; i < RTE_DIM(changing); i++)
		rte_eth_dev_callback_register(interrupt->port, changing[i], note_change, interrupt);
	return 0;
}

int dk_interrupt_open(uint16_t port, uint16_t queue, struct dk_interrupt **opened)
{
	struct dk_interrupt *interrupt;
	int result = rte_eth_dev_rx_intr_enable(port, queue);

	if (result != 0)
		return result;
	rte_eth_dev_rx_intr_disable(port, queue);
	interrupt = calloc(1, sizeof *interrupt);
	if (interrupt == NULL)
		return -ENOMEM;
	*interrupt = (struct dk_interrupt){ .port = port, .queue = queue, .changes = -1 };
	interrupt->descriptor = epoll_create1(EPOLL_CLOEXEC);
	result = interrupt->descriptor < 0 ? -errno : 0;
	if (result == 0)
		result = rte_eth_dev_rx_intr_ctl_q(port, queue, interrupt->descriptor, RTE_INTR_EVENT_ADD, NULL);
	if (result == 0)
		result = watch_changes(interrupt);
	if (result != 0) {
		dk_interrupt_close(interrupt);
		return result;
	}
	*opened = interrupt;
	return interrupt->descriptor;
}

void dk_interrupt_close(struct dk_interrupt *interrupt)
{
	forget_changes(interrupt);
	rte_eth_dev_rx_intr_disable(interrupt->port, interrupt->queue);
	if (interrupt->descriptor >= 0) {
		rte_eth_dev_rx_intr_ctl_q(interrupt->port, interrupt->queue, interrupt->descriptor, RTE_INTR_EVENT_DEL, NULL);
		close(interrupt->descriptor);
	}
	if (interrupt->changes >= 0)
		close(interrupt->changes);
	free(interrupt);
}

int dk_interrupt_arm(uint16_t port, uint16_t queue)
{
	return rte_eth_dev_rx_intr_enable(port, queue);
}

void dk_interrupt_disarm(uint16_t port, uint16_t queue)
{
	rte_eth_dev_rx_intr_disable(port, queue);
}

int dk_interrupt_take(struct dk_interrupt *interrupt)
{
	struct rte_epoll_event events[2];

	return rte_epoll_wait(interrupt->descriptor, events, RTE_DIM(events), 0);
}

/* Bursts */

static uint32_t flags_in(uint64_t flags)
{
	uint64_t ip = flags & RTE_MBUF_F_RX_IP_CKSUM_MASK, l4 = flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	uint32_t result = 0;

	/* NONE: it is not in the packet, but the packet came whole, as between virtual machines. */
	if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD || ip == RTE_MBUF_F_RX_IP_CKSUM_NONE)
		result |= DK_IN_IP_GOOD;
	if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD)
		result |= DK_IN_IP_BAD;
	if (l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD || l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		result |= DK_IN_L4_GOOD;
	if (l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD)
		result |= DK_IN_L4_BAD;
	if (flags & RTE_MBUF_F_RX_RSS_HASH)
		result |= DK_IN_HASH;
	return result;
}

uint16_t dk_receive(uint16_t port, uint16_t queue, struct dk_segment_in *segments, uint16_t room, uint32_t *dropped,
		    const struct rte_mempool *pool)
{
	struct rte_mbuf *burst[BURST];
	uint16_t count, filled = 0;

	dk_memif_set(port, queue, 1);
	count = rte_eth_rx_burst(port, queue, burst, BURST);
	dk_memif_set(port, queue, 0);

	for (uint16_t i = 0; i < count; i++)
		rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
	for (uint16_t i = 0; i < count; i++) {
		uint32_t flags = flags_in(burst[i]->ol_flags);

		/* One place for each packet that follows is kept. */
		if (unlikely(burst[i]->nb_segs > room - filled - (count - 1 - i))) {
			rte_pktmbuf_free(burst[i]);
			++*dropped;
			continue;
		}
		for (struct rte_mbuf *mbuf = burst[i], *next; mbuf != NULL; mbuf = next) {
			struct dk_segment_in *segment = &segments[filled++];
			int own = mbuf->pool == pool && RTE_MBUF_DIRECT(mbuf) && rte_mbuf_refcnt_read(mbuf) == 1;

			next = mbuf->next;
			segment->mbuf = mbuf;
			segment->data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
			segment->length = mbuf->data_len;
			segment->flags = flags | (next == NULL ? DK_IN_LAST : 0) | (own ? DK_IN_OWN : 0);
			segment->hash = burst[i]->hash.rss;
			/* Each is given back by itself. */
			mbuf->next = NULL;
			mbuf->nb_segs = 1;
		}
	}
	return filled;
}

static void set_offloads(struct rte_mbuf *head, const struct dk_segment_out *segment)
{
	uint32_t flags = segment->flags;
	uint64_t result = flags & DK_OUT_V6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;

	if (flags & DK_OUT_IP_CHECKSUM)
		result |= RTE_MBUF_F_TX_IP_CKSUM;
	if (flags & DK_OUT_TCP_CHECKSUM)
		result |= RTE_MBUF_F_TX_TCP_CKSUM;
	if (flags & DK_OUT_UDP_CHECKSUM)
		result |= RTE_MBUF_F_TX_UDP_CKSUM;
	head->l2_len = segment->l2_length;
	head->l3_len = segment->l3_length;
	head->l4_len = segment->l4_length;
	if (segment->segment_size != 0) {
		result |= RTE_MBUF_F_TX_TCP_SEG;
		head->tso_segsz = segment->segment_size;
	}
	head->ol_flags = RTE_MBUF_F_EXTERNAL | result;
}

static void release_chain(struct rte_mbuf *mbuf)
{
	while (mbuf != NULL) {
		struct rte_mbuf *next = mbuf->next;

		mbuf->next = NULL;
		mbuf->nb_segs = 1;
		mbuf = next;
	}
}

uint16_t dk_transmit(uint16_t port, uint16_t queue, struct dk_segment_out *segments, uint16_t count, uint16_t *refused)
{
	struct rte_mbuf *burst[BURST];
	struct rte_mbuf *head = NULL, *tail = NULL;
	uint16_t packets = 0, ready, sent;
	int prepare = 0;

	for (uint16_t i = 0; i < count; i++) {
		struct dk_segment_out *segment = &segments[i];
		struct rte_mbuf *mbuf = segment->mbuf;

		set_memory(mbuf, (void *)(uintptr_t)segment->data, (uint16_t)segment->length);
		mbuf->data_off = 0;
		mbuf->data_len = (uint16_t)segment->length;
		mbuf->ol_flags = RTE_MBUF_F_EXTERNAL;
		if (head == NULL) {
			head = mbuf;
			head->pkt_len = 0;
			head->tx_offload = 0;
			if (segment->flags & ~DK_OUT_LAST) {
				set_offloads(head, segment);
				prepare = 1;
			}
		} else {
			tail->next = mbuf;
			head->nb_segs++;
		}
		head->pkt_len += segment->length;
		tail = mbuf;
		if (segment->flags & DK_OUT_LAST) {
			burst[packets++] = head;
			head = NULL;
		}
	}
	ready = prepare ? rte_eth_tx_prepare(port, queue, burst, packets) : packets;
	dk_memif_set(port, queue, 1);
	sent = ready == 0 ? 0 : rte_eth_tx_burst(port, queue, burst, ready);
	dk_memif_set(port, queue, 0);
	/* What the port cannot send for what it is, and not for want of room. */
	*refused = sent == ready && ready < packets;
	for (uint16_t i = sent; i < packets; i++)
		release_chain(burst[i]);
	return sent;
}

/* Frames without a stack */

static int is_stopped(const uint8_t *stop)
{
	return __atomic_load_n(stop, __ATOMIC_RELAXED);
}

/* Sends all of a burst, but for those that are left when it is stopped. */
static void send_all(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count, const uint8_t *stop)
{
	uint16_t sent = 0;

	while (sent < count && !is_stopped(stop))
		sent += rte_eth_tx_burst(port, queue, burst + sent, count - sent);
	if (sent < count)
		rte_pktmbuf_free_bulk(burst + sent, count - sent);
}

uint64_t dk_raw_echo(uint16_t port, uint16_t queue, const uint8_t *stop)
{
	struct rte_mbuf *burst[BURST];
	uint64_t total = 0;

	while (!is_stopped(stop)) {
		uint16_t count = rte_eth_rx_burst(port, queue, burst, BURST);

		if (count > 0)
			send_all(port, queue, burst, count, stop);
		total += count;
	}
	return total;
}

uint32_t dk_raw_ping(uint16_t port, uint16_t queue, struct rte_mempool *pool, uint16_t size, uint32_t *nanoseconds,
		     uint32_t count)
{
	const uint64_t hz = rte_get_tsc_hz();
	const uint8_t never = 0;
	struct rte_mbuf *burst[BURST];

	for (uint32_t i = 0; i < count; i++) {
		uint64_t start = rte_rdtsc(), now;
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
		uint16_t received = 0;

		if (mbuf == NULL || rte_pktmbuf_append(mbuf, size) == NULL)
			return i;
		send_all(port, queue, &mbuf, 1, &never);
		do {
			received = rte_eth_rx_burst(port, queue, burst, BURST);
			now = rte_rdtsc();
			if (now - start > hz)
				return i;
		} while (received == 0);
		rte_pktmbuf_free_bulk(burst, received);
		nanoseconds[i] = (uint32_t)((double)(now - start) * 1e9 / (double)hz);
	}
	return count;
}

uint64_t dk_raw_flood(uint16_t port, uint16_t queue, struct rte_mempool *pool, uint16_t size, const uint8_t *stop)
{
	struct rte_mbuf *burst[BURST];
	uint64_t total = 0;

	while (!is_stopped(stop)) {
		/* The other side's buffers come back here, and have to. */
		uint16_t received = rte_eth_rx_burst(port, queue, burst, BURST);

		rte_pktmbuf_free_bulk(burst, received);
		if (rte_pktmbuf_alloc_bulk(pool, burst, BURST) != 0)
			continue;
		for (uint16_t i = 0; i < BURST; i++)
			rte_pktmbuf_append(burst[i], size);
		send_all(port, queue, burst, BURST, stop);
		total += BURST;
	}
	return total;
}

uint64_t dk_raw_sink(uint16_t port, uint16_t queue, const uint8_t *stop)
{
	struct rte_mbuf *burst[BURST];
	uint64_t bytes = 0;

	while (!is_stopped(stop)) {
		uint16_t count = rte_eth_rx_burst(port, queue, burst, BURST);

		for (uint16_t i = 0; i < count; i++)
			bytes += rte_pktmbuf_pkt_len(burst[i]);
		rte_pktmbuf_free_bulk(burst, count);
	}
	return bytes;
}
