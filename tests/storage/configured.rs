//! Where the store is.

use crate::Scratch;
use demikernel::storage::{self, LogError, Store, log_error};
use demikernel::{Buffer, Builder, spawn};
use std::io::{self, ErrorKind};

/// Runs a program with this configuration.
fn with<T>(configuration: &str, main: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    Builder::new().transport("epoll").configuration(configuration).build()?.block_on(main)
}

/// The message that a program gets which asks for the store.
fn refusal(configuration: &str) -> io::Error {
    with(configuration, storage::store()).map(drop).unwrap_err()
}

async fn push(text: &'static str) -> io::Result<u64> {
    Ok(storage::log("orders").await?.push(Buffer::from(text)).await?.number)
}

async fn names() -> io::Result<Vec<String>> {
    Ok(storage::store().await?.names())
}

#[test]
fn all_who_ask_share_one_store() {
    let ask = async {
        let askers: Vec<_> = (0..8).map(|_| spawn(push("x"))).collect();
        let mut numbers = Vec::new();
        for asker in askers {
            numbers.push(asker.await.unwrap()?);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>());
        Ok(())
    };
    with("[storage]\ndevice = \"memory:1MiB\"\n", ask).unwrap();
}

#[test]
fn nobody_guesses_where_logs_are() {
    let error = refusal("[network]\n");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("device under [storage]"), "{error}");
    assert!(error.to_string().contains("DEMIKERNEL_STORAGE"), "{error}");
}

#[test]
fn a_configuration_that_is_wrong_is_told_to_who_asks() {
    let error = refusal("[storage]\ndevice = \"memory:1MiB\"\ndepth = 0\n");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "line 3: storage.depth: found 0, expected a value from 1 to 4095");
    let error = refusal("[storage]\ndevice = \"memory:1MiB\"\nsegment = \"2MiB\"\n");
    assert!(
        error.to_string().starts_with("storage memory:1048576: a store with segments of 2097152 bytes"),
        "{error}"
    );
    assert!(matches!(log_error(&error), Some(LogError::TooSmall { .. })));
}

#[test]
fn what_is_named_wins_over_the_file() {
    let builder = Builder::new().transport("epoll").storage("memory:1MiB");
    let runtime =
        builder.configuration("[storage]\ndevice = \"/no/such/place\"\nsegment = \"64KiB\"\n").build();
    let segment = runtime.unwrap().block_on(async { storage::store().await.unwrap().info().segment_size });
    assert_eq!(segment, 64 << 10, "the rest of the file holds");
    // As with the transport: a program that names it does not start without.
    let builder = Builder::new().transport("epoll").storage("./a").configuration("[storage]\ndepth = 0\n");
    assert!(builder.build().err().unwrap().to_string().contains("storage.depth"));
}

#[test]
fn a_store_may_be_given_to_a_runtime() {
    let given = async {
        let (store, _disk) = crate::small_store(8).await;
        storage::set_default(&store);
        push("x").await?;
        assert_eq!(store.names(), ["orders"]);
        Ok(())
    };
    with("", given).unwrap();
}

/// Whether io_uring can be used here.
fn has_files() -> bool {
    let usable = cfg!(feature = "io-uring") && Builder::new().transport("io_uring").build().is_ok();
    assert!(usable || !cfg!(feature = "io-uring") || std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none());
    usable
}

fn file(scratch: &Scratch, more: &str) -> String {
    format!("[storage]\ndevice = {:?}\nsize = \"1MiB\"\n{more}", scratch.text())
}

#[test]
fn a_file_is_made_and_found_again() {
    if !has_files() {
        return;
    }
    let scratch = Scratch::new();
    let error = refusal(&file(&scratch, "format = \"never\"\n"));
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!scratch.0.exists());
    assert_eq!(with(&file(&scratch, ""), push("x")).unwrap(), 0);
    assert_eq!(scratch.0.metadata().unwrap().len(), 1 << 20);
    assert_eq!(with(&file(&scratch, "format = \"never\"\n"), push("x")).unwrap(), 1);
    let read_only = with(&file(&scratch, "read-only = true\n"), push("x")).unwrap_err();
    assert_eq!(log_error(&read_only), Some(&LogError::ReadOnly));
}

#[test]
fn what_belongs_to_others_is_overwritten_with_consent_alone() {
    if !has_files() {
        return;
    }
    let scratch = Scratch::new();
    let mut content = b"SQLite format 3\0".to_vec();
    content.resize(1 << 20, 7);
    std::fs::write(&scratch.0, &content).unwrap();
    let error = refusal(&file(&scratch, ""));
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(
        error
            .to_string()
            .starts_with(&format!("storage {}: the device holds an SQLite database", scratch.text()))
    );
    assert!(error.to_string().ends_with("(format = \"foreign\" under [storage])"), "{error}");
    assert!(matches!(log_error(&error), Some(LogError::Foreign { .. })));
    assert!(std::fs::read(&scratch.0).unwrap() == content, "nothing was written");
    let consent = file(&scratch, "format = \"foreign\"\n");
    assert_eq!(with(&consent, push("x")).unwrap(), 0);
    // Consent is for what is foreign.
    assert_eq!(with(&consent, push("x")).unwrap(), 1);
}

#[test]
fn two_cannot_have_one_file() {
    if !has_files() {
        return;
    }
    let scratch = Scratch::new();
    let configuration = file(&scratch, "lock-patience = \"0ms\"\n");
    let hold = async {
        push("x").await?;
        let error = std::thread::spawn({
            let configuration = configuration.clone();
            move || refusal(&configuration)
        });
        let error = error.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        push("x").await
    };
    assert_eq!(with(&configuration, hold).unwrap(), 1);
    // It has been let go of.
    assert_eq!(with(&configuration, push("x")).unwrap(), 2);
}

#[test]
fn each_core_has_a_device_of_its_own() {
    if !has_files() {
        return;
    }
    let files = [Scratch::new(), Scratch::new()];
    let list = files.each_ref().map(|file| format!("{:?}", file.text())).join(", ");
    let configuration = format!("[storage]\ndevice = [{list}]\nsize = \"1MiB\"\n");
    let builder = Builder::new().transport("epoll").cores(3).configuration(&configuration);
    let code = builder.run(async || {
        let core = demikernel::core_index();
        match storage::log(&format!("of-{core}")).await {
            Ok(_) => assert!(core < 2),
            Err(error) => {
                assert_eq!(
                    error.to_string(),
                    "storage.device: there are 2, and none for core 2, counted from 0"
                );
            }
        }
    });
    assert_eq!(code, std::process::ExitCode::SUCCESS);
    for (core, file) in files.iter().enumerate() {
        let configuration = format!("[storage]\ndevice = {:?}\n", file.text());
        assert_eq!(with(&configuration, names()).unwrap(), [format!("of-{core}")]);
    }
}

#[test]
fn a_failure_is_told_to_all_who_wait_and_tried_again() {
    if !has_files() {
        return;
    }
    let scratch = Scratch::new();
    std::fs::write(&scratch.0, vec![7; 1 << 20]).unwrap();
    let ask = async {
        let askers: Vec<_> = (0..3).map(|_| spawn(storage::store())).collect();
        for asker in askers {
            let opened: io::Result<Store> = asker.await.unwrap();
            assert!(matches!(log_error(&opened.unwrap_err()), Some(LogError::Foreign { .. })));
        }
        std::fs::write(&scratch.0, vec![0; 1 << 20])?;
        push("x").await
    };
    assert_eq!(with(&file(&scratch, ""), ask).unwrap(), 0);
}
