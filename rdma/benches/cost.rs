//! Sends and receives one message so many times over the double, to be counted from outside. What the double takes is
//! not this crate's: callgrind tells them apart.
//!
//! `cost COUNT LENGTH` prints nothing. `valgrind --tool=callgrind --callgrind-out-file=OUT PROGRAM COUNT LENGTH`, and
//! `callgrind_annotate --inclusive=yes OUT`: of the instructions of `send` and `receive`, those of the
//! double's `post_send`, `post_shared` and `poll` are to be taken off.

use demikernel_rdma::verbs::*;
use demikernel_runtime::buffer::{Buffer, BufferMut};

struct End {
    completions: CompletionQueue,
    shared: SharedReceiveQueue,
    pair: QueuePair,
}

impl End {
    fn new(tag: u64) -> End {
        let device = double::device().expect("the double opens");
        let domain = ProtectionDomain::new(&device).expect("a domain");
        let completions = CompletionQueue::new(&device, 256, None).expect("a completion queue");
        let shared = SharedReceiveQueue::new(&domain, 128).expect("a shared receive queue");
        let config = QueuePairConfig { tag, ..QueuePairConfig::default() };
        let pair = QueuePair::new(&domain, &completions, &completions, Some(&shared), &config);
        let end = End { completions, shared, pair: pair.expect("a queue pair") };
        end.shared.post_many(std::iter::repeat_with(space)).expect("room for receives");
        end
    }

    fn join(&self, other: &End) {
        let port = self.pair.domain().device().active_port(1).expect("a port that is up");
        let gid = Some(double::ADDRESS.to_ipv6_mapped().octets());
        let route = Route { port: 1, gid, ..Route::default() };
        self.pair.join(&port, &route, other.pair.number()).expect("a peer");
    }
}

fn space() -> BufferMut {
    BufferMut::with_capacity(2048).expect("memory")
}

/// One message, and what is done before it.
#[inline(never)]
fn send(end: &End, data: &Buffer) {
    end.pair.send(data.clone().into(), Flags::default(), 0).expect("room");
    if end.completions.poll().expect("a device") > 0 {
        while end.completions.take().is_some() {}
    }
}

/// One message, and the receive posted anew.
#[inline(never)]
fn receive(end: &End) {
    assert_eq!(end.completions.poll().expect("a device"), 1);
    match end.completions.take().expect("a message").outcome {
        Outcome::Received { data, .. } => end.shared.post(data).expect("room"),
        other => panic!("{other:?}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [count, length] = &arguments[..] else { return eprintln!("usage: cost COUNT LENGTH") };
    let (count, length): (u64, usize) = (count.parse().expect("a count"), length.parse().expect("a length"));
    let (near, far) = (End::new(1), End::new(2));
    near.join(&far);
    far.join(&near);
    let mut data = BufferMut::with_capacity(length).expect("memory");
    data.resize(length, 7);
    let data = data.freeze();
    for _ in 0..count {
        send(&near, &data);
        receive(&far);
    }
}
