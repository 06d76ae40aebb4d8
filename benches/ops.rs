//! Does one operation so many times and nothing else, to be counted from outside: instructions under callgrind,
//! system calls under strace, allocations under memcheck.
//!
//! `ops list` prints a line `NAME COUNT` for each operation, with a count that makes differences exact; `ops run
//! NAME COUNT` does it. What one operation costs is the difference between COUNT and twice COUNT, divided by COUNT:
//! start-up and warm-up are in both. `cargo xtask exact` does that.

mod operations;

use operations::OPERATIONS;
use std::process::ExitCode;

/// A multiple of every unit.
const COUNT: u64 = 16 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => OPERATIONS.iter().for_each(|operation| println!("{} {COUNT}", operation.name)),
        ["run", name, count] => {
            let operation = OPERATIONS.iter().find(|operation| operation.name == name);
            let (Some(operation), Ok(count)) = (operation, count.parse()) else {
                eprintln!("error: no operation {name:?}, or {count:?} is not a number");
                return ExitCode::FAILURE;
            };
            operation.run(&operation.runtime(), count);
        }
        _ => {
            eprintln!("usage: ops list | ops run NAME COUNT");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
