//! Devices, memory, queues and connections of RDMA.
