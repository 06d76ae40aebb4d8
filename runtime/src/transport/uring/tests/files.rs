//! Files.

use super::*;
use futures::future::join_all;

fn create() -> OpenMode {
    OpenMode { read: true, write: true, create: true, mode: 0o600, ..OpenMode::default() }
}

#[test]
fn what_is_written_is_read() {
    on_each(async |uring| {
        let scratch = Scratch::new("file");
        let file = uring.open(&scratch.path("a"), create()).await.unwrap();
        uring.write_at(file, 0, b"hello world".to_vec()).await.unwrap();
        uring.write_at(file, 6, b"there".to_vec()).await.unwrap();
        uring.sync(file, true).await.unwrap();
        uring.sync(file, false).await.unwrap();
        assert_eq!(uring.length(file).unwrap(), 11);
        let buffer = uring.read_at(file, 0, BufferMut::with_capacity(100).unwrap()).await.unwrap();
        assert_eq!(buffer, b"hello there");
        let mut buffer = BufferMut::with_capacity(100).unwrap();
        buffer.extend_from_slice(b"so: ");
        let buffer = uring.read_at(file, 6, buffer).await.unwrap();
        assert_eq!(buffer, b"so: there", "what was in the buffer stays");
        let end = uring.read_at(file, 11, BufferMut::with_capacity(100).unwrap()).await.unwrap();
        assert!(end.is_empty());
        uring.truncate(file, 3).await.unwrap();
        assert_eq!(uring.length(file).unwrap(), 3);
        uring.close_file(file);
        assert_eq!(uring.sync(file, true).await.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(std::fs::read(scratch.path("a")).unwrap(), b"hel");
    });
}

#[test]
fn many_operations_on_one_file() {
    on_each(async |uring| {
        let scratch = Scratch::new("many");
        let file = uring.open(&scratch.path("a"), create()).await.unwrap();
        let writes: Vec<_> =
            (0..100u64).map(|n| uring.write_at(file, n * 1000, vec![n as u8; 1000])).collect();
        for write in join_all(writes).await {
            write.unwrap();
        }
        let reads: Vec<_> =
            (0..100).map(|n| uring.read_at(file, n * 1000, BufferMut::with_capacity(256).unwrap())).collect();
        for (n, read) in join_all(reads).await.into_iter().enumerate() {
            assert_eq!(read.unwrap(), [n as u8; 256]);
        }
    });
}

#[test]
fn a_list_of_many_pieces_is_written_whole() {
    on_each(async |uring| {
        let scratch = Scratch::new("pieces");
        let file = uring.open(&scratch.path("a"), create()).await.unwrap();
        let mut data = crate::buffer::Sga::new();
        let mut expected = Vec::new();
        for n in 0..200u32 {
            let piece = vec![n as u8; 1 + n as usize * 7];
            expected.extend_from_slice(&piece);
            data.push(piece.into());
        }
        start(|done| Storage::write_at(&**uring, file, 0, data, done)).await.unwrap();
        assert!(std::fs::read(scratch.path("a")).unwrap() == expected);
    });
}

#[test]
fn direct_io_wants_whole_blocks() {
    on_each(async |uring| {
        let scratch = Scratch::new("direct");
        let file = match uring.open(&scratch.path("a"), OpenMode { direct: true, ..create() }).await {
            Ok(file) => file,
            Err(error) => {
                assert!(error.to_string().contains("O_DIRECT"), "{error}");
                return eprintln!("skipped: {error}");
            }
        };
        let mut block = BufferMut::with_capacity(8192).unwrap();
        block.extend_from_slice(&[5; 8192]);
        let block = block.freeze();
        uring.write_at(file, 0, block.clone()).await.unwrap();
        let read = uring.read_at(file, 4096, BufferMut::with_capacity(4096).unwrap()).await.unwrap();
        assert_eq!(read, [5; 4096]);
        let error = uring.write_at(file, 100, block.slice(1..513)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("4096"), "{error}");
    });
}

#[test]
fn errors_of_opening_say_what() {
    on_each(async |uring| {
        let scratch = Scratch::new("errors");
        let read = OpenMode { read: true, ..OpenMode::default() };
        let error = uring.open(&scratch.path("none"), read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("none"), "{error}");
        let error = uring.open(&scratch.path("none"), OpenMode::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn dropped_operations_leave_nothing() {
    on_each(async |uring| {
        let scratch = Scratch::new("dropped");
        let files = || {
            std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| {
                    std::fs::read_link(entry.ok()?.path())
                        .ok()
                        .filter(|link| link.starts_with(scratch.path("")))
                })
                .count()
        };
        for delay in [0, 50, 200, 1000] {
            let open = uring.open(&scratch.path("a"), create());
            sleep(Duration::from_micros(delay)).await;
            // One that is done already would have to be taken and closed.
            if !open.is_done() {
                drop(open);
            } else {
                uring.close_file(open.await.unwrap());
            }
            until(|| files() == 0).await;
            let file = uring.open(&scratch.path("a"), create()).await.unwrap();
            let write = uring.write_at(file, 0, vec![1; 1 << 20]);
            let read = uring.read_at(file, 0, BufferMut::with_capacity(1 << 20).unwrap());
            sleep(Duration::from_micros(delay)).await;
            drop((write, read));
            uring.close_file(file);
            until(|| files() == 0).await;
        }
    });
}
