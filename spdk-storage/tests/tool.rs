//! The tool, as people run it.
#![cfg(feature = "io-uring")]

use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::Buffer;
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::StoreOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What it prints, what it complains of, and its status.
fn tool(arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_demikernel-log")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn stores_are_made_looked_into_and_verified() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tool-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = path.to_str().unwrap();
    let (out, err, status) = tool(&["create", file, "--size", "4M", "--segment", "64K"]);
    assert_eq!((err.as_str(), status), ("", 0));
    assert!(out.contains("segments of 65536 bytes"), "{out}");
    let (_, err, status) = tool(&["create", file]);
    assert!(err.contains("holds a store of logs already") && status == 1, "{err}");

    let position = Runtime::new().unwrap().block_on(async {
        let volume = Volume::attach(FileOptions::new().open(&path).unwrap());
        let store = StoreOptions::new().open(volume).await.unwrap();
        let log = store.log("events").await.unwrap();
        log.push(Buffer::from("first")).await.unwrap();
        let second = log.push(Buffer::from("sec\nond")).await.unwrap();
        log.push(Buffer::from("third")).await.unwrap();
        store.close().await.unwrap();
        second.position
    });
    let (out, _, _) = tool(&["info", file]);
    assert!(out.contains("closed") && out.contains("log \"events\": records 0 to 3"), "{out}");
    let (out, _, status) = tool(&["verify", file]);
    assert_eq!((out.as_str(), status), ("log \"events\": 3 records, 17 bytes\nintact\n", 0));
    let (out, _, _) = tool(&["dump", file, "events", "--from", "1", "--count", "1"]);
    assert_eq!(out, format!("1 {position} 7 sec\\nond\n"));
    let (out, _, _) = tool(&["dump", file, "events", "--count", "1", "--hex"]);
    assert!(out.ends_with(" 5 6669727374\n"), "{out}");

    // The first segment, behind both superblocks.
    let place = 32768 + position + 32;
    let medium = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    medium.read_exact_at(&mut byte, place).unwrap();
    medium.write_all_at(&[byte[0] ^ 1], place).unwrap();
    drop(medium);
    let (out, _, status) = tool(&["verify", file]);
    assert!(
        out.contains("records 1 to 1 of log \"events\" are damaged") && out.ends_with("damaged\n"),
        "{out}"
    );
    assert_eq!(status, 1);
    let (out, err, _) = tool(&["dump", file, "events"]);
    assert!(out.lines().count() == 2 && err.contains("damaged"), "{out}{err}");

    std::fs::write(&path, [7; 65536]).unwrap();
    let (_, err, status) = tool(&["info", file]);
    assert!(err.contains("data of an unknown kind") && status == 1, "{err}");
    let (_, err, status) = tool(&["nothing"]);
    assert!(err.starts_with("usage:") && status == 2);
    let _ = std::fs::remove_file(&path);
}
