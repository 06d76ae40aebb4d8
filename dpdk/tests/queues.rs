//! Queues by their number, and the hash by which a device spreads flows over them.

mod common;

use common::eal;
use demikernel_dpdk::{Port, PortConfig};

#[test]
fn each_thread_has_the_queue_that_it_asks_for() {
    // A device that takes key and table, and looks at neither.
    let mut config = PortConfig::new("net_null0");
    config.queues = 3;
    config.hash_key = Some([0x6d, 0x5a].into_iter().cycle().take(64).collect());
    assert!(Port::most_queues(eal(), &config).unwrap() >= 3);
    let open = |index: u16| {
        let config = config.clone();
        std::thread::spawn(move || {
            let queue = Port::open_queue(eal(), &config, index).map_err(|error| error.to_string())?;
            // All are there once one is.
            let refused = Port::open_queue(eal(), &config, index).unwrap_err().to_string();
            Ok::<_, String>((queue.index(), queue.port().redirection(), refused))
        })
    };
    let threads = [2, 0, 1].map(|index| (index, open(index)));
    for (index, thread) in threads {
        let (own, table, refused) = thread.join().unwrap().unwrap();
        assert_eq!(own, index);
        assert_eq!(table.len(), 128);
        assert!(table.iter().enumerate().all(|(place, queue)| place % 3 == usize::from(*queue)), "{table:?}");
        assert!(refused.contains("all its queues are in use"), "{refused}");
    }
    let error = Port::open_queue(eal(), &config, 3).unwrap_err().to_string();
    assert!(error.contains("no queue of this number"), "{error}");
}

/// Without a key of ours nothing is said of what hashes do.
#[test]
fn a_device_with_a_hash_of_its_own_is_not_believed() {
    let queue = Port::open(eal(), &PortConfig::new("net_null1")).unwrap();
    assert!(queue.port().redirection().is_empty());
}
