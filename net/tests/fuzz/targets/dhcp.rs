//! The client of DHCP: answers of any server, at any time.

use super::input::Input;
use demikernel_net::ip::dhcp::{Action, Client, MOST_SERVERS};
use demikernel_net::wire::ethernet::MacAddress;
use demikernel_runtime::time::Instant;
use std::time::Duration;

const HARDWARE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Actions that one event has at most: more would never end.
const MOST_ACTIONS: usize = 8;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut client = Client::new(now, HARDWARE, input.u64());
    let mut transaction = [0; 4];
    while !input.is_empty() {
        match input.u8() % 6 {
            // A second, a minute, a day, whatever.
            0 => now = now.saturating_add(Duration::from_secs(1 << (input.u8() % 24))),
            1 => now = client.deadline().map_or(now, |due| due.max(now)),
            2 => client.on_message(now, input.counted(), 7),
            3 | 4 => client.on_message(now, &answer(transaction, &mut input), 9),
            _ if input.bool() => client.on_conflict(now, input.u64()),
            _ => client.release(now, 3),
        }
        let actions: Vec<Action> =
            std::iter::from_fn(|| client.poll(now, input.u64())).take(MOST_ACTIONS).collect();
        assert!(actions.len() < MOST_ACTIONS, "{actions:?}");
        for action in actions {
            check(&action, now, &mut transaction);
        }
    }
}

fn check(action: &Action, now: Instant, transaction: &mut [u8; 4]) {
    match action {
        Action::Send { payload, .. } => {
            assert!((300..=576).contains(&payload.len()), "{} bytes", payload.len());
            transaction.copy_from_slice(&payload[4..8]);
        }
        Action::Configure(lease) => {
            assert!(now < lease.renew_at && lease.renew_at <= lease.rebind_at, "{lease:?}");
            assert!(lease.rebind_at <= lease.until, "{lease:?}");
            assert!(lease.routers.len().max(lease.dns_servers.len()) <= MOST_SERVERS, "{lease:?}");
        }
        Action::Deconfigure(_) => {}
    }
}

/// An answer to what was asked, with any options.
fn answer(transaction: [u8; 4], input: &mut Input<'_>) -> Vec<u8> {
    const KINDS: [u8; 4] = [2, 5, 6, 5];
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(transaction);
    bytes.extend([0; 8]);
    bytes.extend([10, 0, 0, input.u8()]);
    bytes.extend([0; 8]);
    bytes.extend(HARDWARE.0);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend([53, 1, KINDS[usize::from(input.u8() % 4)], 54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0]);
    bytes.extend(input.counted());
    bytes.push(255);
    bytes
}
