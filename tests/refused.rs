//! Where the kernel or a container refuses io_uring.
#![cfg(feature = "io-uring")]

use demikernel::net::{TcpListener, TcpStream};
use demikernel::{Builder, spawn};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Has the kernel refuse io_uring_setup(2) to this thread, as the seccomp profiles of containers do.
fn forbid_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let is_setup = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32)
    };
    let mut filter = [
        // The number of the call is the first field of what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        is_setup,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter are valid for the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0, "seccomp");
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let server = spawn(async move {
        let (stream, _) = listener.accept().await?;
        stream.push(stream.pop().await?).await
    });
    client.push("hello".into()).await?;
    assert_eq!(client.pop().await?, b"hello");
    server.await?
}

#[test]
fn a_program_runs_on_epoll_with_a_warning_or_says_why_it_cannot() {
    // The filter stays for as long as the thread.
    let thread = std::thread::spawn(|| {
        forbid_io_uring();
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let runtime =
            tracing::subscriber::with_default(subscriber, || Builder::new().transport("auto").build());
        let runtime = runtime.unwrap();
        assert_eq!(runtime.devices(), ["epoll"]);
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("WARN") && logged.contains("io_uring is refused: using epoll"), "{logged}");
        runtime.block_on(echo()).unwrap();

        let error = Builder::new().transport("io_uring").build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        for part in ["transport \"io_uring\" cannot start", "seccomp profile", "epoll"] {
            assert!(text.contains(part), "{text}");
        }
    });
    thread.join().unwrap();
}
