//! Operations as tokens, on the double.

use std::io::ErrorKind;

use demikernel_runtime::Runtime;

use super::*;
use crate::MemoryWindow;
use crate::verbs::*;
use demikernel_runtime::buffer::BufferMut;

struct End {
    domain: ProtectionDomain,
    completions: CompletionQueue,
    pair: QueuePair,
}

impl End {
    fn new(tag: u64, access: Access) -> End {
        let device = double::device().unwrap();
        let domain = ProtectionDomain::new(&device).unwrap();
        let completions = CompletionQueue::new(&device, 16, None).unwrap();
        let config = QueuePairConfig { tag, access, send_depth: 4, ..QueuePairConfig::default() };
        let pair = QueuePair::new(&domain, &completions, &completions, None, &config).unwrap();
        End { domain, completions, pair }
    }

    fn join(&self, other: &End) {
        let port = self.domain.device().port(1).unwrap();
        let gid = Some(double::ADDRESS.to_ipv6_mapped().octets());
        self.pair.join(&port, &Route { port: 1, gid, ..Route::default() }, other.pair.number()).unwrap();
    }

    fn turn(&self, one_sided: &OneSided) {
        while self.completions.poll().unwrap() > 0 {
            while let Some(completion) = self.completions.take() {
                assert!(one_sided.complete(completion).is_none(), "nothing else is under way");
            }
        }
        one_sided.resume(&self.pair);
    }
}

/// Both ends, with a window of the far one.
fn window(access: Access) -> (End, End, MemoryWindow) {
    let all = Access::READ | Access::WRITE | Access::ATOMIC;
    let (near, far) = (End::new(1, Access::NONE), End::new(2, all));
    near.join(&far);
    far.join(&near);
    let mut memory = BufferMut::with_capacity(256).unwrap();
    memory.resize(256, 0);
    let window = MemoryWindow::new(&far.domain, memory, access).unwrap();
    (near, far, window)
}

fn text(bytes: &[u8]) -> Sga {
    Buffer::copy_from_slice(bytes).unwrap().into()
}

#[test]
fn each_operation_gives_its_result() {
    Runtime::new().unwrap().block_on(async {
        let (near, far, window) = window(Access::READ | Access::WRITE | Access::ATOMIC);
        let memory = RemoteMemory::from_bytes(&window.describe().to_bytes());
        let one = OneSided::new();
        let write = one.write(&near.pair, text(b"hello"), memory, 8);
        let read = one.read(&near.pair, memory, 8, 5);
        let add = one.fetch_add(&near.pair, memory, 64, 5);
        near.turn(&one);
        write.await.unwrap();
        assert_eq!(read.await.unwrap(), b"hello");
        assert_eq!(add.await.unwrap(), 0);
        let swap = one.compare_swap(&near.pair, memory, 64, 5, 6);
        far.pair.receive(BufferMut::with_capacity(64).unwrap(), 0).unwrap();
        let told = one.write_imm(&near.pair, text(b"told"), memory, 0, 7);
        near.turn(&one);
        assert_eq!(swap.await.unwrap(), 5);
        told.await.unwrap();
        assert_eq!((window.load(64), one.pending()), (6, 0));
        assert_eq!(far.completions.poll().unwrap(), 1);
        assert!(matches!(far.completions.take().unwrap().outcome, Outcome::Written { immediate: 7, .. }));
    });
}

#[test]
fn more_than_there_is_room_for_waits_in_order() {
    Runtime::new().unwrap().block_on(async {
        let (near, _far, window) = window(Access::WRITE | Access::READ);
        let memory = window.describe();
        let one = OneSided::new();
        double::hold(true);
        let mut writes: Vec<_> =
            (0..20).map(|value| one.write(&near.pair, text(&[value]), memory, 0)).collect();
        // Of those that nobody waits for, what has not begun never does.
        let cancelled = one.write(&near.pair, text(&[99]), memory, 0);
        drop(cancelled);
        drop(writes.remove(0));
        let last = one.read(&near.pair, memory, 0, 1);
        assert_eq!(one.pending(), 22);
        double::hold(false);
        while one.pending() > 0 {
            near.turn(&one);
        }
        for write in writes {
            write.await.unwrap();
        }
        assert_eq!(last.await.unwrap(), [19]);
    });
}

#[test]
fn what_is_not_granted_fails_and_so_does_what_comes_after() {
    Runtime::new().unwrap().block_on(async {
        let (near, _far, window) = window(Access::READ);
        let memory = window.describe();
        let one = OneSided::new();
        let beyond = one.read(&near.pair, memory, 250, 7);
        assert_eq!(beyond.await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let ok = one.read(&near.pair, memory, 250, 6);
        let denied = one.write(&near.pair, text(b"x"), memory, 0);
        let after = one.read(&near.pair, memory, 0, 1);
        near.turn(&one);
        assert_eq!(ok.await.unwrap().len(), 6);
        let error = denied.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(WorkError::of(&error).unwrap().status, Status::RemoteAccess);
        assert_eq!(after.await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_window_that_is_revoked_is_out_of_reach() {
    Runtime::new().unwrap().block_on(async {
        let (near, _far, window) = window(Access::READ);
        let memory = window.describe();
        let one = OneSided::new();
        let memory_again = window.revoke().unwrap();
        let stale = one.read(&near.pair, memory, 0, 1);
        near.turn(&one);
        assert_eq!(stale.await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(memory_again.len(), 256);
    });
}

#[test]
fn nobody_waits_for_ever() {
    Runtime::new().unwrap().block_on(async {
        let (near, far, window) = window(Access::READ);
        let memory = window.describe();
        let one = OneSided::new();
        double::hold(true);
        let reads: Vec<_> = (0..10).map(|_| one.read(&near.pair, memory, 0, 1)).collect();
        let End { domain, completions, pair } = near;
        drop(pair);
        one.abort(1);
        for read in reads {
            assert_eq!(read.await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        }
        assert_eq!(one.pending(), 0);
        let left = End { domain, completions, pair: far.pair };
        let read = one.read(&left.pair, memory, 0, 1);
        drop(one);
        assert_eq!(read.await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        double::hold(false);
    });
}
