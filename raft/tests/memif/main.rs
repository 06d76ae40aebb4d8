//! The replicated key-value store without a kernel in between: nodes as processes on DPDK, which memif joins to a switch, and
//! clients at another port of it. One node after the other is killed under load.

#[path = "../client/mod.rs"]
mod client;
#[path = "../history/mod.rs"]
mod history;
#[path = "../nodes/mod.rs"]
mod nodes;

use client::{Client, Clients, check};
use demikernel::time::{Duration, Instant, sleep};
use demikernel::{Builder, Idle, spawn, spawn_blocking};
use demikernel_runtime::random::Random;
use history::History;
use nodes::{Cluster, NODES, Process};
use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// The port of the switch that clients are at: behind those of the nodes.
const CLIENTS: usize = NODES;

fn cluster() -> Cluster {
    let address = |index: usize, port: u16| format!("10.78.0.{}:{port}", index + 1);
    let addresses = std::array::from_fn(|index| (address(index, 7000), address(index, 6379)));
    Cluster::new("dpdk", addresses, &[("demikernel-dpdk", "memif-switch")])
}

/// The stack at a port of the switch.
fn configuration(cluster: &Cluster, index: usize) -> String {
    let (host, socket) = (index + 1, socket(cluster, index));
    format!(
        "[network]\naddresses = [\"10.78.0.{host}/24\"]\nmac = \"02:00:00:00:78:0{host}\"\n\
         duplicate-detection = \"off\"\n[dpdk]\nhuge-pages = false\nmemory = \"128MiB\"\n\
         port = \"net_memif0,role=client,id=0,socket={socket},socket-abstract=no\"\n"
    )
}

/// In the directory for temporary files, as the names of sockets are short.
fn socket(cluster: &Cluster, index: usize) -> String {
    let name = cluster.directory.file_name().unwrap().to_str().unwrap();
    std::env::temp_dir().join(format!("{name}-{index}.sock")).display().to_string()
}

struct Sockets(Vec<String>);

impl Drop for Sockets {
    fn drop(&mut self) {
        self.0.iter().for_each(|socket| drop(std::fs::remove_file(socket)));
    }
}

/// Kills one node after the other, each when the others have answered for a while.
async fn kill(cluster: Arc<Cluster>, nodes: Arc<Mutex<Vec<Process>>>, clients: &Clients) {
    for round in 0..4 {
        let (answered, deadline) = (clients.history.answered.get(), Instant::now() + Duration::from_secs(60));
        while clients.history.answered.get() < answered + 60 {
            assert!(Instant::now() < deadline, "nobody is answered in round {round}");
            sleep(Duration::from_millis(20)).await;
        }
        let index = clients.below(NODES as u64) as usize;
        let time = Duration::from_millis(clients.below(1500));
        let (cluster, nodes) = (cluster.clone(), nodes.clone());
        let killed = spawn_blocking(move || {
            nodes.lock().unwrap()[index].kill();
            std::thread::sleep(time);
            let node = cluster.start(index);
            nodes.lock().unwrap()[index] = node;
        });
        killed.await.unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed_on_memif() {
    let cluster = Arc::new(cluster());
    let sockets = Sockets((0..=CLIENTS).map(|index| socket(&cluster, index)).collect());
    let mut switch = Command::new(cluster.programs.join("memif-switch"));
    let _switch = Process::start(switch.args(&sockets.0), "4 ports");
    for index in 0..NODES {
        std::fs::write(cluster.configuration(index), configuration(&cluster, index)).unwrap();
    }
    let nodes = Arc::new(Mutex::new((0..NODES).map(|index| cluster.start(index)).collect::<Vec<_>>()));

    let random = RefCell::new(Random::new(2, 2));
    let clients = Rc::new(Clients {
        addresses: cluster.clients.clone(),
        keys: 6,
        random: Box::new(move || random.borrow_mut().next()),
        history: History::default(),
        numbers: Cell::new(0),
    });
    let stack = Builder::new().transport("dpdk").configuration(&configuration(&cluster, CLIENTS));
    let runtime = stack.idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let over = Rc::new(Cell::new(false));
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let over = over.clone();
                spawn(Client::new(&clients).run(move || over.get(), Duration::from_millis(10)))
            })
            .collect();
        kill(cluster.clone(), nodes.clone(), &clients).await;
        over.set(true);
        for client in asking {
            client.await.unwrap();
        }
        check(&clients).await;
    });
    let mut nodes = nodes.lock().unwrap();
    assert!(nodes.iter_mut().all(Process::terminate), "nodes end well when they are asked to");
}
