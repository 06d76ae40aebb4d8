//! Demikernel.
