//! An example on a card.

use crate::guest::{Guest, wait_for};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server in a process of its own; dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

/// What a server has said, and counted, until its end.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) log: String,
}

impl Server {
    /// With the configuration of README.md.
    pub(crate) fn echo(guest: &Guest) -> Server {
        let configuration = guest.configuration();
        Server::start(guest, "echo", &["serve", "--listen", "10.0.0.2:7000"], &configuration)
    }

    /// What it says that cannot start, run by root or a user of this number.
    pub(crate) fn refusal(guest: &Guest, user: Option<&str>) -> String {
        let mut command = match user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--clear-groups"]).arg(program("echo"));
                command
            }
            None => Command::new(program("echo")),
        };
        command.args(["serve", "--listen", "10.0.0.2:7000", "--transport", "dpdk"]);
        let output = command.env("DEMIKERNEL_CONFIG", guest.configuration()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Over IPv6.
    pub(crate) fn key_value(guest: &Guest) -> Server {
        let configuration = guest.directory.join("key-value.toml");
        let text = format!(
            "[network]\ndevice = \"dpdk\"\naddresses = [\"fd00:9::2/64\"]\nduplicate-detection = \"optimistic\"\n\
             [dpdk]\nport = \"{}\"\n",
            guest.card().address
        );
        fs::write(&configuration, text).unwrap();
        Server::start(guest, "key-value", &["--listen", "[fd00:9::2]:6379"], &configuration)
    }

    /// On the card, with a log on the storage that a section of the configuration says.
    pub(crate) fn with_log(guest: &Guest, storage: &str) -> Server {
        let configuration = guest.directory.join("log.toml");
        let text = fs::read_to_string(guest.configuration()).unwrap();
        fs::write(&configuration, format!("{text}\n{storage}")).unwrap();
        let arguments = ["--listen", "10.0.0.2:6379", "--log", "orders"];
        Server::start(guest, "key-value", &arguments, &configuration)
    }

    /// The same on sockets of the kernel.
    pub(crate) fn of_kernel(guest: &Guest, transport: &str, storage: &str) -> Server {
        let configuration = guest.directory.join("kernel.toml");
        fs::write(&configuration, storage).unwrap();
        let arguments = ["--listen", "127.0.0.1:6379", "--transport", transport, "--log", "orders"];
        Server::start(guest, "key-value", &arguments, &configuration)
    }

    fn start(guest: &Guest, example: &str, arguments: &[&str], configuration: &Path) -> Server {
        let log = guest.directory.join(format!("{example}.log"));
        let mut command = Command::new(program(example));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&log).unwrap());
        command.env("DEMIKERNEL_TRANSPORT", "dpdk").env("DEMIKERNEL_CONFIG", configuration);
        command.env("RUST_LOG", "info,demikernel_net=debug,demikernel_dpdk=debug").env("NO_COLOR", "1");
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_else(|| panic!("{}", read(&log)));
        let address = line.split_whitespace().find_map(|word| word.parse().ok()).expect("where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address, log }
    }

    /// Waits until it has said something.
    #[track_caller]
    pub(crate) fn wait_for_words(&self, words: &str, patience: Duration) {
        wait_for(words, patience, || read(&self.log).contains(words));
    }

    /// What it has taken of the processor, all its threads.
    pub(crate) fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name come the fields from the third on; of these, the 14th and 15th are ticks of 10 ms.
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let ticks =
            fields.split(' ').skip(14 - 3).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        Duration::from_millis(10 * ticks)
    }

    /// Kills it. Its card and its drive are nobody's then.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a user would.
    pub(crate) fn end(mut self) -> Counted {
        crate::guest::shell(&format!("kill -TERM {}", self.child.id()));
        wait_for("the server ends", Duration::from_secs(60), || self.child.try_wait().unwrap().is_some());
        let (status, log) = (self.child.wait().unwrap(), read(&self.log));
        assert!(status.success(), "{status}: {log}");
        Counted { log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whom the kernel knows, what the threads do, and what was counted, tell where it was lost.
            let last = "ip neigh; cat /proc/$0/task/*/stat; sleep 1; cat /proc/$0/task/*/stat; kill -TERM $0; sleep 2";
            let last = Command::new("sh").args(["-c", last, &self.child.id().to_string()]).output();
            let last = last.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("{}\n{}", last.unwrap_or_default(), read(&self.log));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Counted {
    /// A counter; 0 if it was not said, as those are not that stayed there.
    pub(crate) fn of(&self, name: &str) -> u64 {
        let value = self.log.split_once(&format!("(\"{name}\", ")).and_then(|(_, rest)| rest.split_once(')'));
        value.map_or(0, |(value, _)| value.parse().unwrap())
    }
}

/// An example that the stage has built beside this test.
fn program(example: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("examples").join(example)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
