//! The system's RDMA packages, which the build script of this crate looks for.
//!
//! It is a crate of its own as `ibverbs-sys`, which makes its binding with CMake and libclang, would fail with pages of
//! output when one of them is missing: cargo builds this one, which depends on nothing, first.
