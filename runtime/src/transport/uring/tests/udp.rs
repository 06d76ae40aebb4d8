//! Datagrams.

use super::*;
use futures::future::join_all;

fn bound(uring: &Uring) -> (Qd, SocketAddr) {
    let qd = uring.socket(Domain::V4, SocketKind::Datagram).unwrap();
    uring.bind(qd, &any_port()).unwrap();
    (qd, uring.local(qd).unwrap().inet().unwrap())
}

#[test]
fn datagrams_keep_their_bounds_and_say_who_sent_them() {
    on_each(async |uring| {
        let ((a, at_a), (b, at_b)) = (bound(uring), bound(uring));
        for length in [0, 1, 64, 1400, 9000] {
            uring.push_to(a, vec![length as u8; length], at_b).await.unwrap();
        }
        for length in [0, 1, 64, 1400, 9000] {
            let (data, from) = uring.pop_from(b, 65_535).await.unwrap();
            assert_eq!((data, from), (Buffer::from(vec![length as u8; length]), at_a));
        }
    });
}

#[test]
fn many_datagrams_at_once() {
    on_each(async |uring| {
        let ((a, _), (b, at_b)) = (bound(uring), bound(uring));
        let pops: Vec<_> = (0..50).map(|_| uring.pop_from(b, 100)).collect();
        let pushes: Vec<_> = (0..50u8).map(|n| uring.push_to(a, vec![n; 10], at_b)).collect();
        for push in join_all(pushes).await {
            push.unwrap();
        }
        let mut seen: Vec<u8> = join_all(pops).await.into_iter().map(|pop| pop.unwrap().0[0]).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<u8>>());
    });
}

#[test]
fn a_connected_socket_needs_no_addresses() {
    on_each(async |uring| {
        let ((a, at_a), (b, at_b)) = (bound(uring), bound(uring));
        uring.connect(a, &at_b.into()).await.unwrap();
        uring.connect(b, &at_a.into()).await.unwrap();
        uring.push(a, b"there".to_vec()).await.unwrap();
        assert_eq!(uring.pop(b).await.unwrap(), b"there");
        uring.push(b, b"and back".to_vec()).await.unwrap();
        assert_eq!(uring.pop_limited(a, 3).await.unwrap(), b"and", "what is longer than the limit is cut");
    });
}

#[test]
fn nobody_there_is_an_error_of_a_connected_socket() {
    on_each(async |uring| {
        let ((a, _), (b, at_b)) = (bound(uring), bound(uring));
        uring.connect(a, &at_b.into()).await.unwrap();
        uring.close(b);
        let pop = uring.pop(a);
        uring.push(a, b"hello?".to_vec()).await.unwrap();
        assert_eq!(pop.await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_dropped_pop_loses_no_datagram() {
    on_each(async |uring| {
        let ((a, _), (b, at_b)) = (bound(uring), bound(uring));
        for round in 0..6u8 {
            let pop = uring.pop_from(b, 100);
            if round % 2 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            drop(pop);
            uring.push_to(a, vec![round], at_b).await.unwrap();
            assert_eq!(uring.pop_from(b, 100).await.unwrap().0, [round]);
        }
    });
}

#[test]
fn an_address_is_free_again_when_its_socket_is_closed() {
    on_each(async |uring| {
        let (a, at_a) = bound(uring);
        let pop = uring.pop_from(a, 100);
        sleep(Duration::from_millis(1)).await;
        uring.close(a);
        assert!(pop.await.is_err());
        let again = uring.socket(Domain::V4, SocketKind::Datagram).unwrap();
        match counter(uring, "sqpoll") {
            0 => uring.bind(again, &at_a.into()).unwrap(),
            // The kernel's thread takes its time.
            _ => until(|| uring.bind(again, &at_a.into()).is_ok()).await,
        }
    });
}

#[test]
fn too_long_a_datagram_is_refused() {
    on_each(async |uring| {
        let ((a, _), (_, at_b)) = (bound(uring), bound(uring));
        let error = uring.push_to(a, vec![0; 70_000], at_b).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    });
}
