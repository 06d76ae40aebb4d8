//! Instructions in user space, counted by valgrind's callgrind.
//!
//! Each program runs twice, with a smaller and a larger number of operations or messages; the difference of the
//! counts divided by the difference of the numbers leaves out start-up and shut-down. Counts do not depend on
//! what else the machine does, except for how many messages a server finds ready at once: it runs some thirty
//! times slower than the client, so that all connections have a message waiting.

use crate::child;
use crate::echo::server::Server;
use crate::echo::throughput::Load;
use crate::record::{Kind, Log, Record};
use std::io;
use std::process::Command;
use std::time::Duration;

/// Of an operation: multiples of 1,024.
const OPERATIONS: [u64; 2] = [4 * 1024, 12 * 1024];
/// Of a server.
const MESSAGES: [u64; 2] = [4_000, 12_000];
const LIMIT: Duration = Duration::from_secs(120);
const SIZE: usize = 64;

/// The connections with which servers are counted.
pub const CONNECTIONS: [usize; 2] = [1, 32];

pub(crate) fn wrapper() -> Vec<String> {
    ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"].map(String::from).to_vec()
}

/// Whether valgrind is there.
pub fn available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The total in callgrind's last lines.
pub(crate) fn collected(stderr: &str) -> io::Result<u64> {
    let total = stderr.split_once("Collected :").and_then(|(_, rest)| rest.split_whitespace().next());
    total.and_then(|x| x.parse().ok()).ok_or_else(|| {
        let last = stderr.lines().last().unwrap_or("nothing");
        io::Error::other(format!("callgrind printed no total, but {last:?}"))
    })
}

/// Counts one operation of one runtime.
pub fn operation(runtime: &str, operation: &str, log: &mut Log) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let count = |operations: u64| {
        let wrapper = wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(&program).args(["executor-child", runtime, "--operations"]);
        command.arg(operations.to_string()).arg(operation);
        collected(&child::output(&mut command, LIMIT)?.check(runtime)?.stderr)
    };
    let totals = [count(OPERATIONS[0])?, count(OPERATIONS[1])?];
    // Once to warm up, once measured.
    let done = 2 * (OPERATIONS[1] - OPERATIONS[0]);
    let values = vec![(totals[1] as f64 - totals[0] as f64) / done as f64];
    let (contender, item) = (runtime.into(), operation.into());
    log.push(Record { kind: Kind::Instructions, contender, item, round: 0, values })
}

/// Counts an operation of a stack.
pub fn stack(contender: &str, item: &str, operations: u64, log: &mut Log) -> io::Result<()> {
    let program = std::env::current_exe()?;
    // Of what is measured in part, only that part is counted: the function that has its name.
    let part = match item {
        "receive" | "transmit" => Some(format!("--toggle-collect=*Bursts::{item}")),
        _ => None,
    };
    let count = |operations: u64| {
        let mut wrapper = wrapper();
        wrapper.extend(part.clone());
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(&program).args(["stack-child", contender, item]);
        command.args(["--operations", &operations.to_string()]);
        collected(&child::output(&mut command, LIMIT)?.check(contender)?.stderr)
    };
    let (small, large) = (count(operations)?, count(2 * operations)?);
    let values = vec![(large as f64 - small as f64) / operations as f64];
    let (contender, item) = (contender.into(), item.into());
    log.push(Record { kind: Kind::StackInstructions, contender, item, round: 0, values })
}

/// Counts a server's instructions per message.
pub fn message(server: &str, connections: usize, log: &mut Log) -> io::Result<()> {
    let count = |messages: u64| {
        let server = Server::start(server, &wrapper())?;
        let mut load = Load::connect(server.address, connections, SIZE)?;
        load.start()?;
        let messages = load.run_messages(messages)?;
        Ok::<_, io::Error>((messages, collected(&server.terminate()?)?))
    };
    let ((few, small), (many, large)) = (count(MESSAGES[0])?, count(MESSAGES[1])?);
    let values = vec![(large as f64 - small as f64) / (many - few) as f64];
    let (contender, item) = (server.into(), crate::echo::rounds::cell(connections, SIZE));
    log.push(Record { kind: Kind::MessageInstructions, contender, item, round: 0, values })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_read_from_what_callgrind_prints() {
        let text = "==1== \n==1== Events    : Ir\n==1== Collected : 126649\n==1== \n==1== I refs: 126,649\n";
        assert_eq!(super::collected(text).unwrap(), 126_649);
        assert!(super::collected("==1== killed\n").is_err());
    }
}
