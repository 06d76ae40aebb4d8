//! One-sided operations on streams, on the double.

use super::super::tests::{counter, heap, pair, pattern, run};
use super::*;
use crate::transport::RdmaConfig;
use crate::verbs::{Status, WorkError, double};
use demikernel_runtime::time::sleep;
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::{Runtime, spawn, yield_now};
use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

const ALL: [Access; 3] = [Access::READ, Access::WRITE, Access::ATOMIC];

fn all() -> Access {
    ALL.into_iter().fold(Access::NONE, |all, one| all | one)
}

fn memory(len: usize) -> BufferMut {
    let mut memory = BufferMut::with_capacity(len).unwrap();
    memory.resize(len, 0);
    memory
}

/// Two ends, and a window of the server's that the client may use so.
async fn exported(access: Access) -> io::Result<(TcpStream, TcpStream, MemoryRegion)> {
    let (client, server) = pair().await?;
    let window = Remote::of(&server)?.export(memory(4096), access)?;
    Ok((client, server, window))
}

#[test]
fn a_stream_of_another_transport_has_none() {
    let runtime = Runtime::new().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async {
        let listener = demikernel_runtime::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let error = Remote::of(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("streams of the transport rdma"), "{error}");
    });
}

#[test]
fn stream_and_operations_go_at_the_same_time() {
    run(&RdmaConfig { window: 8, send_depth: 8, ..RdmaConfig::default() }, async {
        let (client, server, window) = exported(all()).await?;
        let there = window.describe();
        let echo = spawn(async move {
            for _ in 0..200 {
                let data = server.pop().await?;
                server.push(data).await?;
            }
            io::Result::Ok(server)
        });
        let pushes = spawn(async move {
            for round in 0..200 {
                client.push(heap(&pattern(300, round))).await?;
                let remote = Remote::of(&client)?;
                let writes: Vec<_> = (0..5)
                    .map(|at| remote.write(there, at * 300, heap(&pattern(300, round)).into()))
                    .collect();
                let read = remote.read(there, 1200, 300);
                let add = remote.fetch_add(there, 4088, 1);
                assert_eq!(client.pop().await?, pattern(300, round));
                for write in writes {
                    write.await?;
                }
                assert_eq!(read.await?, pattern(300, round));
                assert_eq!(add.await?, round as u64);
            }
            io::Result::Ok(client)
        });
        let (client, server) = (pushes.await.unwrap()?, echo.await.unwrap()?);
        assert_eq!(window.load(4088), 200);
        assert_eq!((counter("one-sided operations pending"), counter("protocol violations")), (0, 0));
        drop((client, server));
        Ok(())
    });
}

#[test]
fn streams_have_room_beside_operations_that_fill_the_queue() {
    run(&RdmaConfig { send_depth: 8, ..RdmaConfig::default() }, async {
        let (client, server, window) = exported(all()).await?;
        let (bystander, its_server) = pair().await?;
        let (there, remote) = (window.describe(), Remote::of(&client)?);
        sleep(Duration::from_millis(1)).await;
        double::hold(true);
        let writes: Vec<_> = (0..100).map(|at| remote.write(there, at * 8, heap(&[1; 8]).into())).collect();
        let before = counter("frames sent");
        client.push(heap(b"beside")).detach();
        bystander.push(heap(b"and elsewhere")).detach();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(counter("frames sent"), before + 2, "neither waits for the operations");
        double::hold(false);
        for write in writes {
            write.await?;
        }
        assert_eq!(server.pop().await?, b"beside");
        assert_eq!(its_server.pop().await?, b"and elsewhere");
        Ok(())
    });
}

#[test]
fn nothing_is_granted_that_was_not_asked_for() {
    for access in ALL {
        for asked in ALL {
            run(&RdmaConfig::default(), async move {
                let (client, server, window) = exported(access).await?;
                let (there, remote) = (window.describe(), Remote::of(&client)?);
                let result = match asked {
                    Access::READ => remote.read(there, 0, 8).await.map(drop),
                    Access::WRITE => remote.write(there, 0, heap(b"x").into()).await,
                    _ => remote.fetch_add(there, 0, 1).await.map(drop),
                };
                if asked == access {
                    return result;
                }
                assert_eq!(WorkError::of(&result.unwrap_err()).unwrap().status, Status::RemoteAccess);
                assert_eq!(server.pop().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
                Ok(())
            });
        }
    }
}

#[test]
fn a_window_is_for_those_who_were_granted_it() {
    run(&RdmaConfig::default(), async {
        let (_client, _server, window) = exported(Access::READ).await?;
        let (other, its_server) = pair().await?;
        Remote::of(&its_server)?.grant(Access::READ)?;
        assert_eq!(Remote::of(&other)?.read(window.describe(), 0, 3).await?, [0; 3]);
        // Who was granted one thing cannot do another to a window that lets others do it.
        let (writer, its_end) = pair().await?;
        let written = Remote::of(&its_end)?.export(memory(64), Access::WRITE)?;
        Remote::of(&writer)?.write(written.describe(), 0, heap(b"x").into()).await?;
        let denied = Remote::of(&other)?.write(written.describe(), 0, heap(b"y").into()).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        assert_eq!(written.revoke()?[0], b'x');
        let (third, _its_server) = pair().await?;
        let denied = Remote::of(&third)?.read(window.describe(), 0, 3).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        Ok(())
    });
}

#[test]
fn bounds_are_looked_at_here_and_keys_there() {
    run(&RdmaConfig::default(), async {
        let (client, server, window) = exported(all()).await?;
        let (bystander, its_server) = pair().await?;
        let there = window.describe();
        let remote = Remote::of(&client)?;
        for beyond in [
            remote.read(there, 4000, 97).await.map(drop),
            remote.write(there, u64::MAX, heap(b"x").into()).await,
            remote.write_imm(there, 4096, heap(b"x").into(), 1).await,
            remote.fetch_add(there, 4089, 1).await.map(drop),
            remote.compare_swap(there, 4, 0, 1).await.map(drop),
        ] {
            assert_eq!(beyond.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        // It cost nothing, and the credits of the one that would have told a number are there.
        client.push(heap(b"alive")).await?;
        assert_eq!(server.pop().await?, b"alive");

        window.revoke()?;
        let behind = [remote.read(there, 0, 8), remote.read(there, 8, 8)];
        let mut errors = Vec::new();
        for read in behind {
            errors.push(read.await.unwrap_err());
        }
        assert_eq!(errors[0].kind(), ErrorKind::PermissionDenied, "{}", errors[0]);
        assert_eq!(WorkError::of(&errors[0]).unwrap().status, Status::RemoteAccess);
        assert!(matches!(errors[1].kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted));
        assert_eq!(client.pop().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.pop().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(remote.read(there, 0, 8).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        bystander.push(heap(b"and the others live")).await?;
        assert_eq!(its_server.pop().await?, b"and the others live");
        Ok(())
    });
}

#[test]
fn numbers_come_behind_what_was_written_and_take_credits() {
    run(&RdmaConfig { window: 16, ..RdmaConfig::default() }, async {
        let (client, server, window) = exported(Access::WRITE).await?;
        let there = window.describe();
        let remote = Remote::of(&client)?;
        // More than there are credits for, and nobody takes them at first.
        let writes: Vec<_> = (0..100u32)
            .map(|number| remote.write_imm(there, 0, heap(&number.to_be_bytes()).into(), number))
            .collect();
        sleep(Duration::from_millis(2)).await;
        assert!(
            writes.iter().filter(|write| write.is_done()).count() < 40,
            "they wait for whoever takes them"
        );
        client.push(heap(b"a stream beside")).detach();
        for number in 0..100 {
            let notice = Remote::of(&server)?.notice().await?.unwrap();
            assert_eq!((notice.immediate, notice.len), (number, 4));
        }
        for write in writes {
            write.await?;
        }
        assert_eq!(server.pop().await?, b"a stream beside");
        assert_eq!(counter("protocol violations"), 0);
        // The end is told to those who wait for numbers, too.
        client.shutdown(Shutdown::Write)?;
        assert_eq!(Remote::of(&server)?.notice().await?, None);
        let late = remote.write_imm(there, 0, heap(b"late").into(), 1).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::BrokenPipe);
        remote.write(there, 0, heap(b"what tells nothing").into()).await?;
        Ok(())
    });
}

#[test]
fn a_number_that_is_given_up_is_the_next_ones() {
    run(&RdmaConfig::default(), async {
        let (client, server, window) = exported(Access::WRITE).await?;
        let (there, remote) = (window.describe(), Remote::of(&client)?);
        let notices = Remote::of(&server)?;
        drop(notices.notice());
        let (first, second) = (notices.notice(), notices.notice());
        remote.write_imm(there, 0, Sga::new(), 1).await?;
        remote.write_imm(there, 0, Sga::new(), 2).await?;
        sleep(Duration::from_millis(1)).await;
        assert!(first.is_done() && second.is_done());
        drop(second);
        drop(first);
        assert_eq!(notices.notice().await?.unwrap().immediate, 1);
        assert_eq!(notices.notice().await?.unwrap().immediate, 2);
        let waits = notices.notice();
        drop(client);
        assert_eq!(waits.await?, None);
        Ok(())
    });
}

#[test]
fn what_is_under_way_when_its_token_is_dropped_goes_on_with_its_buffers() {
    run(&RdmaConfig::default(), async {
        let (client, _server, window) = exported(all()).await?;
        let (there, remote) = (window.describe(), Remote::of(&client)?);
        let data = heap(&pattern(2000, 3));
        double::hold(true);
        drop(remote.write(there, 0, data.clone().into()));
        let read = remote.read(there, 0, 2000);
        yield_now().await;
        drop(read);
        assert!(!data.is_unique(), "the device has it");
        double::hold(false);
        assert_eq!(remote.read(there, 0, 2000).await?, pattern(2000, 3));
        assert!(data.is_unique());
        assert_eq!(counter("one-sided operations pending"), 0);
        Ok(())
    });
}

#[test]
fn all_ends_with_its_stream_and_with_its_peer() {
    run(&RdmaConfig::default(), async {
        let (client, server, window) = exported(all()).await?;
        let there = window.describe();
        double::hold(true);
        let reads: Vec<_> = (0..40).map(|at| Remote::of(&client).unwrap().read(there, at, 8)).collect();
        client.set_linger(Some(Duration::ZERO))?;
        drop(client);
        for read in reads {
            let error = read.await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConnectionAborted), "{error}");
        }
        double::hold(false);
        assert_eq!(server.pop().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(counter("one-sided operations pending"), 0);

        let (client, server, window) = exported(all()).await?;
        double::hold(true);
        let read = Remote::of(&client)?.read(window.describe(), 0, 8);
        server.set_linger(Some(Duration::ZERO))?;
        drop(server);
        sleep(Duration::from_millis(1)).await;
        double::hold(false);
        assert!(read.await.is_err(), "the peer is gone");
        let error = client.pop().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::TimedOut), "{error}");
        Ok(())
    });
}

#[test]
fn without_depth_there_are_no_reads_and_writes_go_on() {
    run(&RdmaConfig { read_depth: 0, ..RdmaConfig::default() }, async {
        let (client, server) = pair().await?;
        let error = Remote::of(&server)?.export(memory(64), Access::READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`read-depth`"), "{error}");
        let window = Remote::of(&server)?.export(memory(64), Access::WRITE)?;
        let remote = Remote::of(&client)?;
        remote.write(window.describe(), 0, heap(b"a write").into()).await?;
        let error = remote.read(window.describe(), 0, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`read-depth`"), "{error}");
        Ok(())
    });
}

#[test]
fn memory_that_the_device_does_not_reach_is_copied() {
    run(&RdmaConfig::default(), async {
        let (client, _server, window) = exported(Access::WRITE).await?;
        let before = counter("pieces copied to send");
        let foreign: Sga = [Buffer::from(pattern(500, 1)), heap(b"here")].into_iter().collect();
        Remote::of(&client)?.write(window.describe(), 0, foreign).await?;
        assert_eq!(counter("pieces copied to send"), before + 1);
        let memory = window.revoke()?;
        assert_eq!(memory[..500], pattern(500, 1));
        assert_eq!(&memory[500..504], b"here");
        Ok(())
    });
}
