//! What a key-value server has acknowledged, over servers that are killed under load: each client knows which of its writes
//! were, and asks the next server for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread;

/// Keys of each client: few enough for the log to begin anew some times.
const PLACES: usize = 50;

/// What clients know. Over several servers it is the log's.
pub(crate) struct Ledger {
    /// Of each client, how many values were acknowledged, and what the last increment has given.
    clients: Vec<(usize, i64)>,
}

/// A client on any kind of connection.
pub(crate) struct Client<S> {
    stream: BufReader<S>,
}

impl Ledger {
    pub(crate) fn new(clients: usize) -> Ledger {
        Ledger { clients: vec![(0, 0); clients] }
    }

    /// How many writes were acknowledged.
    pub(crate) fn writes(&self) -> usize {
        self.clients.iter().map(|(count, _)| count).sum()
    }

    /// Whether a server has everything.
    #[track_caller]
    pub(crate) fn check<S: Read + Write>(&self, connect: impl Fn() -> S) {
        for (client, (count, sum)) in self.clients.iter().enumerate().filter(|(_, (count, _))| *count > 0) {
            check(&mut Client::new(connect()), client, *count, *sum);
        }
    }

    /// Writes with all clients until the server is gone, which `kill` sees to.
    pub(crate) fn load<S: Read + Write>(&mut self, connect: impl Fn() -> S + Sync, kill: impl FnOnce()) {
        thread::scope(|scope| {
            let connect = &connect;
            for (client, known) in self.clients.iter_mut().enumerate() {
                scope.spawn(move || {
                    let (count, sum) = load(&mut Client::new(connect()), client, known.0);
                    // A client that was not served has nothing new.
                    *known = (count, sum.max(known.1));
                });
            }
            kill();
        });
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(stream: S) -> Client<S> {
        Client { stream: BufReader::new(stream) }
    }

    /// A request; the reply, if the server lives to give it.
    pub(crate) fn say(&mut self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|_| line.ends_with("\r\n"))?;
        let Some(length) = line.strip_prefix('$') else { return Some(line.trim_end().as_bytes().to_vec()) };
        let length: i64 = length.trim_end().parse().unwrap();
        let Ok(length) = usize::try_from(length) else { return Some(b"(nil)".to_vec()) };
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value).ok()?;
        value.truncate(length);
        Some(value)
    }
}

/// Long enough for some values to take several blocks.
fn value(client: usize, count: usize) -> Vec<u8> {
    format!("{client}:{count} ").repeat(1 + count % 300).into_bytes()
}

/// Writes until the server is gone. How many of its values were acknowledged, and its last increment.
fn load<S: Read + Write>(connection: &mut Client<S>, client: usize, from: usize) -> (usize, i64) {
    let (mut count, mut sum) = (from, 0);
    loop {
        let key = format!("{client}:{}", count % PLACES);
        let Some(reply) = connection.say(&[b"SET", key.as_bytes(), &value(client, count)]) else { break };
        assert_eq!(reply, b"+OK");
        count += 1;
        let counter = format!("counter {client}");
        let Some(reply) = connection.say(&[b"INCR", counter.as_bytes()]) else { break };
        sum = std::str::from_utf8(&reply[1..]).unwrap().parse().unwrap();
        if count % 50 == 0 {
            let gone = format!("gone {client}");
            let words: [&[u8]; 3] = [b"SET", gone.as_bytes(), b"x"];
            if connection.say(&words).is_none() || connection.say(&[b"DEL", gone.as_bytes()]).is_none() {
                break;
            }
        }
    }
    (count, sum)
}

#[track_caller]
fn check<S: Read + Write>(connection: &mut Client<S>, client: usize, count: usize, sum: i64) {
    for place in 0..PLACES.min(count) {
        // The last value of each place, or the one that was not acknowledged any more.
        let last = count - 1 - (count - 1 - place) % PLACES;
        let found = connection.say(&[b"GET", format!("{client}:{place}").as_bytes()]).unwrap();
        let under_way = count % PLACES == place && found == value(client, count);
        assert!(found == value(client, last) || under_way, "client {client} place {place}");
    }
    let found = connection.say(&[b"GET", format!("counter {client}").as_bytes()]).unwrap();
    let found: i64 = std::str::from_utf8(&found).unwrap().parse().unwrap();
    assert!((sum..=sum + 1).contains(&found), "client {client}: {found} of {sum}");
}
