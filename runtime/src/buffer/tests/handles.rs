//! What `Buffer`, `BufferMut` and `Sga` do with bytes.

use std::collections::HashMap;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, BufMut, Bytes};

use crate::buffer::{Buffer, BufferMut, Sga, pool};

fn buffer(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

#[test]
fn chunks_are_aligned_to_their_size() {
    let sizes = [1, 256, 257, 2048, 2049, 4096, 5000, 16 << 10, 20_000, 64 << 10, 70_000, 1 << 20];
    let aligned_to =
        [256, 256, 2048, 2048, 4096, 4096, 16 << 10, 16 << 10, 64 << 10, 64 << 10, 1 << 20, 1 << 20];
    let mut kept = Vec::new();
    for _ in 0..5 {
        for (size, aligned_to) in sizes.into_iter().zip(aligned_to) {
            let mut buffer = BufferMut::with_capacity(size).unwrap();
            assert_eq!(buffer.as_mut_ptr().addr() % aligned_to, 0, "{size}");
            assert_eq!(buffer.capacity(), aligned_to, "{size}");
            buffer.resize(size, size as u8);
            kept.push((buffer, size));
        }
    }
    // None overlaps another.
    assert!(kept.iter().all(|(buffer, size)| buffer.iter().all(|&byte| byte == *size as u8)));
}

#[test]
fn a_large_buffer_has_a_region_of_its_own() {
    let mut large = BufferMut::with_capacity((1 << 20) + 1).unwrap();
    assert_eq!(large.as_mut_ptr().addr() % (2 << 20), 0);
    assert_eq!((large.capacity(), large.region()), (2 << 20, Some((0, 0))));
    large.resize(2 << 20, 7);
    let small = buffer(b"small");
    assert_eq!(small.region().unwrap().0, 1);

    let tail = large.freeze().split_off((2 << 20) - 3);
    assert_eq!(tail, [7, 7, 7]);
    assert_eq!(tail.region(), Some((0, (2 << 20) - 3)));
    drop(tail);
    let again = BufferMut::with_capacity(2 << 20).unwrap();
    assert_eq!(again.region(), Some((0, 0)), "an unused large chunk is kept for the next");
}

#[test]
fn the_chunk_freed_last_is_used_first() {
    let (first, second) = (buffer(b"1"), buffer(b"2"));
    let (at_first, at_second) = (first.as_ptr(), second.as_ptr());
    drop(first);
    drop(second);
    assert_eq!(buffer(b"3").as_ptr(), at_second);
    let third = buffer(b"3");
    assert_eq!(third.as_ptr(), at_second);
    assert_eq!(buffer(b"4").as_ptr(), at_first);
}

#[test]
fn memory_stays_until_its_last_part_is_dropped() {
    let mut whole = buffer(b"one two three");
    let two = whole.slice(4..7);
    let three = whole.split_off(8);
    drop(whole);
    assert_eq!(pool::stats().in_use(), 256);
    assert_eq!((&two[..], &three[..]), (&b"two"[..], &b"three"[..]));
    drop(two);
    assert!(three.is_unique());
    drop(three);
    assert_eq!(pool::stats().in_use(), 0);
}

#[test]
fn empty_parts_keep_no_memory() {
    let mut whole = buffer(b"bytes");
    let parts = [whole.slice(2..2), whole.slice(5..), whole.split_to(0), whole.split_off(5)];
    assert!(whole.is_unique());
    let all = whole.split_to(5);
    assert!(all.is_unique() && whole.is_empty());
    drop(all);
    assert!(parts.iter().all(Buffer::is_empty));
    assert_eq!(pool::stats().in_use(), 0);
    assert!(Buffer::new().try_into_mut().is_err());
}

#[test]
fn ranges_outside_panic() {
    let fails = |f: fn(&mut Buffer)| {
        std::panic::catch_unwind(|| f(&mut buffer(b"12345"))).expect_err("should have panicked");
    };
    fails(|b| drop(b.slice(..6)));
    fails(|b| drop(b.slice(6..)));
    fails(|b| drop(b.slice(..=usize::MAX)));
    fails(|b| drop(b.slice(4..b.len() - 2)));
    fails(|b| drop(b.split_to(6)));
    fails(|b| drop(b.split_off(6)));
    fails(|b| b.advance(6));
    let fails = |f: fn(&mut BufferMut)| {
        let run = || f(&mut BufferMut::with_headroom(4, 100).unwrap());
        std::panic::catch_unwind(run).expect_err("should have panicked");
    };
    fails(|b| b.prepend(5).fill(1));
    fails(|b| b.extend_from_slice(&[0; 253]));
    fails(|b| b.resize(253, 0));
    fails(|b| b.advance(1));
    fails(|b| b.put_bytes(1, 253));
    assert_eq!(pool::stats().in_use(), 0, "nothing was lost by unwinding");
}

#[test]
fn headroom_is_taken_from_the_front_and_given_back() {
    let mut frame = BufferMut::with_headroom(64, 1000).unwrap();
    frame.extend_from_slice(b"data");
    frame.prepend(3).copy_from_slice(b"tcp");
    frame.prepend(2).copy_from_slice(b"ip");
    assert_eq!((frame.headroom(), &frame[..]), (59, &b"iptcpdata"[..]));
    frame.advance(5);
    assert_eq!((frame.headroom(), &frame[..]), (64, &b"data"[..]));
    assert_eq!(frame.prepend(5), [0; 5], "an old header is not shown");

    let mut frame = frame.freeze();
    let body = frame.split_off(5);
    drop(frame);
    let mut body = body.try_into_mut().unwrap();
    assert_eq!((body.headroom(), body.capacity()), (64, 2048 - 64));
    body.prepend(64);
    assert_eq!(body.len(), 68);
}

#[test]
fn reserve_moves_the_bytes_only_if_it_must() {
    let mut bytes = BufferMut::with_headroom(10, 100).unwrap();
    bytes.resize(100, 5);
    let before = bytes.as_ptr();
    bytes.reserve(146).unwrap();
    assert_eq!(bytes.as_ptr(), before);
    bytes.reserve(147).unwrap();
    assert_ne!(bytes.as_ptr(), before);
    assert_eq!((bytes.headroom(), &bytes[..]), (10, &[5; 100][..]));
    bytes.reserve(usize::MAX).unwrap_err();
    assert_eq!(bytes.len(), 100);
}

#[test]
fn writing_stops_where_the_chunk_ends() {
    let mut bytes = BufferMut::with_capacity(256).unwrap();
    assert_eq!(bytes.write(&[1; 200]).unwrap(), 200);
    assert_eq!(bytes.write(&[2; 200]).unwrap(), 56);
    assert_eq!(write!(bytes, "x").unwrap_err().kind(), io::ErrorKind::WriteZero);
    bytes.clear();
    bytes.put_u16(0x0102);
    bytes.put_slice(b"abc");
    assert_eq!(bytes, b"\x01\x02abc");
    let mut bytes = bytes.freeze();
    assert_eq!((bytes.get_u16(), bytes.remaining()), (0x0102, 3));
}

#[test]
fn foreign_memory_is_not_copied() {
    let vec = Vec::from(*b"vector of bytes");
    let at = vec.as_ptr();
    let vector = Buffer::from(vec);
    assert_eq!((vector.as_ptr(), vector.region()), (at, None));
    assert!(vector.slice(10..).try_into_mut().is_err(), "it is shared");
    drop(vector);

    let bytes = Bytes::from(Vec::from(*b"counted bytes"));
    let counted = Buffer::from(bytes.clone());
    assert_eq!(counted.as_ptr(), bytes.as_ptr());
    let back = counted.slice(8..).into_bytes();
    assert_eq!((back.as_ptr(), &back[..]), (bytes[8..].as_ptr(), &b"bytes"[..]));
    assert!(counted.try_into_mut().is_err());
    drop(bytes);
    assert_eq!(back, b"bytes"[..]);

    let fixed = Buffer::from("fixed").slice(1..);
    let out = fixed.clone().into_bytes();
    assert_eq!((out.as_ptr(), &out[..]), (fixed.as_ptr(), &b"ixed"[..]));
    assert!(fixed.try_into_mut().is_err());
    assert_eq!(pool::stats().foreign, 0);
}

#[test]
fn a_vector_can_be_written_in_place_up_to_its_capacity() {
    let mut vec = Vec::with_capacity(100);
    vec.extend_from_slice(b"vec");
    let at = vec.as_ptr();
    let mut bytes = Buffer::from(vec).try_into_mut().unwrap();
    assert!(bytes.capacity() >= 100);
    bytes.extend_from_slice(b"tor");
    assert_eq!((&bytes[..], bytes.as_ptr()), (&b"vector"[..], at));
    assert_eq!(Bytes::from(bytes), b"vector"[..]);
    assert_eq!(pool::stats().foreign, 0);
}

#[test]
fn bytes_that_view_a_region_are_found_in_it() {
    let bytes = buffer(b"header and body").into_bytes();
    let body = Buffer::from(bytes.slice(11..));
    let (region, offset) = body.region().unwrap();
    assert_eq!(pool::regions()[region as usize].base.as_ptr().addr() + offset, bytes[11..].as_ptr().addr());
    assert_eq!(pool::stats().foreign, 1);
    drop(bytes);
    assert_eq!((body.slice(1..).region(), pool::stats().in_use()), (Some((region, offset + 1)), 256));
    drop(body);
    assert_eq!(pool::stats().in_use(), 0);
}

#[test]
fn buffers_compare_hash_and_print_as_their_bytes() {
    let (a, b) = (buffer(b"a\n\xff"), Buffer::from_static(b"b"));
    let (string, bytes, vec) = (String::from("b"), Bytes::from("b"), vec![b'b']);
    assert!(a < b && a == buffer(b"a\n\xff") && a != b);
    assert!(b == "b" && b == string && b == bytes && b == vec && b == b"b");
    assert!(b"b"[..] == b && bytes == b && vec == b);
    assert_eq!(format!("{a:?}"), r#"b"a\n\xff""#);
    let map = HashMap::from([(a, 1), (b, 2)]);
    assert_eq!(map.get(&b"b"[..]), Some(&2));
}

#[test]
fn a_list_keeps_order_beyond_its_inline_part() {
    let mut list = Sga::new();
    let mut model = Vec::new();
    for round in 0..5_u8 {
        for number in 0..=round * 3 {
            list.push(buffer(&[round, number]));
            model.extend_from_slice(&[round, number]);
        }
        list.push(Buffer::new());
        assert_eq!((list.len(), list.to_vec()), (model.len(), model.clone()));
        let count = model.len() / 2 + 1;
        list.advance(count);
        model.drain(..count);
        assert_eq!((list.len(), list.to_vec()), (model.len(), model.clone()));
        assert_eq!(list.segments(), model.len().div_ceil(2));
    }
    let copy = list.clone();
    assert_eq!(list.into_iter().flat_map(|buffer| buffer.to_vec()).collect::<Vec<_>>(), model);

    let mut slices = [IoSlice::new(&[]); 3];
    assert_eq!(copy.chunks_vectored(&mut slices), 3);
    assert_eq!(*slices[2], model[3..5]);
}

#[test]
fn figures_say_what_is_in_use() {
    let kept = (buffer(&[0; 256]), buffer(&[0; 257]), Buffer::from(vec![1]));
    drop(buffer(&[0; 300]));
    drop(BufferMut::with_capacity(3 << 20).unwrap());
    let stats = pool::stats();
    assert_eq!((stats.regions, stats.mapped, stats.foreign), (2, 6 << 20, 1));
    assert_eq!((stats.in_use(), stats.classes[1].high_water), (256 + 2048, 2));
    assert_eq!((stats.classes[1].size, stats.classes[1].total, stats.classes[1].allocations), (2048, 32, 2));
    assert_eq!((stats.classes[6].total, stats.classes[6].in_use, stats.classes[6].in_use_bytes), (1, 0, 0));
    drop(kept);
    pool::trim();
    let stats = pool::stats();
    assert_eq!((stats.regions, stats.mapped, stats.classes[6].total, stats.foreign), (0, 0, 0, 0));
    drop(buffer(b"usable after that"));
}
