//! The floor of large messages: `ib_send_bw` of perftest, between two processes.

use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{CORES, Place};

/// How often is asked whether the server is up: its client does not wait.
const TRIES: u32 = 20;

/// How often both are started.
const ATTEMPTS: u32 = 5;

fn program(core: usize, device: &str, place: &Place, count: usize, length: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "ib_send_bw", "-F", "-R", "-d", device]);
    command.args(["-i", &place.port.to_string(), "-n", &count.to_string(), "-s", &length.to_string()]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Bytes per second of so many messages of a length.
pub(super) fn pour(device: &str, place: &Place, count: usize, length: usize) -> io::Result<f64> {
    // On a machine that is busy its two ends do not always find each other.
    for _ in 0..ATTEMPTS {
        if let Some(figure) = attempt(device, place, count, length)? {
            return Ok(figure);
        }
    }
    Err(io::Error::other("ib_send_bw has said no figure"))
}

fn attempt(device: &str, place: &Place, count: usize, length: usize) -> io::Result<Option<f64>> {
    let mut server = program(CORES[1], device, place, count, length).stdout(Stdio::null()).spawn()?;
    let mut figure = None;
    for _ in 0..TRIES {
        thread::sleep(Duration::from_millis(250));
        let client =
            program(CORES[0], device, place, count, length).arg(place.address.to_string()).output()?;
        figure =
            average(&String::from_utf8_lossy(&client.stdout), length).filter(|_| client.status.success());
        if figure.is_some() || server.try_wait()?.is_some() {
            break;
        }
    }
    // It has nothing to do any more, or waits for nobody.
    let _ = server.kill();
    server.wait()?;
    Ok(figure)
}

/// The average of the table's only line, whose first column is the length.
fn average(output: &str, length: usize) -> Option<f64> {
    let length = length.to_string();
    output.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(&length)).then_some(())?;
        // Megabytes of 2^20.
        words
            .nth(2)?
            .parse::<f64>()
            .ok()
            .filter(|figure| *figure > 0.0)
            .map(|figure| figure * f64::from(1 << 20))
    })
}
