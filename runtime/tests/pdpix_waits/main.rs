//! Tokens of the PDPIX calls, and waiting for them, on queues in memory.

mod memory;
mod model;
mod next;
mod pipes;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::pdpix::{Opcode, QResult};

fn text(text: &'static str) -> Buffer {
    Buffer::from_static(text.as_bytes())
}

fn popped(result: QResult) -> Vec<u8> {
    assert_eq!(result.opcode, Opcode::Pop, "{result:?}");
    result.value.into_sga().unwrap().to_vec()
}
